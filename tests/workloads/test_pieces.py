"""A load in pieces: each brings its share at once, and the same seed brings the same."""

import numpy as np
import pytest

from workloads.pieces import in_pieces
from workloads.plan import Plan
from workloads.trace import load_trace
from workloads.trace_table import Trace
from workloads.workload import Workload

PIECES = ((0.5, 200.0), (1.5, 200.0), (0.0, 100.0), (1.0, 200.0))


@pytest.fixture(scope="module")
def trace() -> Trace:
    return load_trace("synthetic")


def nominal_s(workload: Workload) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """When each request is due if answers take 20 ms a token."""
    table = workload.table
    due: list[tuple[int, float, int]] = []
    for session, at_us, think_us, tokens in zip(
        table.session_id.tolist(), table.arrival_us.tolist(), table.think_us.tolist(), table.output_tokens.tolist(), strict=True
    ):
        begun = at_us >= 0
        due.append((session, at_us / 1e6 if begun else due[-1][1] + due[-1][2] * 0.02 + think_us / 1e6, tokens))
    return np.array([at_s for _, at_s, _ in due])


def test_every_piece_has_its_load_from_its_first_seconds_on(trace: Trace) -> None:
    workload = in_pieces(trace, Plan(warmup_s=30.0), 20.0, PIECES, 1)
    due_s, begin_s = nominal_s(workload), 30.0
    for factor, length_s in PIECES:
        for a, b in ((begin_s, begin_s + length_s / 4), (begin_s + 3 * length_s / 4, begin_s + length_s)):
            planned = 20.0 * factor * (b - a)
            found = int(((due_s >= a) & (due_s < b)).sum())
            assert abs(found - planned) <= 6 * np.sqrt(planned), f"{factor} from {a} to {b}: {found}, planned {planned}"
        begin_s += length_s


def test_nobody_comes_in_a_piece_without_load(trace: Trace) -> None:
    workload = in_pieces(trace, Plan(warmup_s=30.0), 20.0, PIECES, 1)
    arrival_s = workload.table.arrival_us[workload.table.arrival_us >= 0] / 1e6
    assert not ((arrival_s >= 430.0) & (arrival_s < 530.0)).any()


def test_phases_say_the_pieces(trace: Trace) -> None:
    workload = in_pieces(trace, Plan(warmup_s=30.0), 20.0, PIECES, 1)
    assert [(p.name, p.duration_s, p.load_rps) for p in workload.phases] == [
        ("warmup", 30.0, 10.0),
        ("piece1", 200.0, 10.0),
        ("piece2", 200.0, 30.0),
        ("piece3", 100.0, 0.0),
        ("piece4", 200.0, 20.0),
    ]


def test_one_piece_is_the_plain_load(trace: Trace) -> None:
    """The same sessions as without pieces: a factor of 1 thins nothing."""
    from workloads.synthesis import synthesize

    plain = synthesize(
        trace, Plan(warmup_s=20.0, steady_s=80.0, recovery_s=0.0, trigger={"kind": "placebo", "d_s": 0.0}), 20.0, 3
    )
    piece = in_pieces(trace, Plan(warmup_s=20.0), 20.0, ((1.0, 80.0),), 3)
    first = {(w.table.arrival_us[w.table.arrival_us >= 0].tobytes()) for w in (plain, piece)}
    assert len(first) == 1


def test_a_seed_gives_the_same_workload_again_and_another_seed_another(trace: Trace) -> None:
    made = [in_pieces(trace, Plan(), 20.0, PIECES, seed) for seed in (1, 1, 2)]
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.mark.parametrize("pieces", [(), ((0.0, 10.0),), ((-1.0, 10.0), (1.0, 10.0)), ((1.0, 0.0),)])
def test_pieces_that_make_no_load_are_refused(trace: Trace, pieces: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match="pieces are"):
        in_pieces(trace, Plan(), 20.0, pieces, 1)
