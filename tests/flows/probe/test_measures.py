"""The numbers of an answer from rows that can be counted by hand."""

import numpy as np
import pyarrow as pa
import pytest

from flows.probe.measures import finite, spill, ttft_quantiles
from replay.recorder import Recorder
from replay.rows import ReplicaSample


def attempts(*rows: tuple[int, int, float, float | None, str]) -> pa.Table:
    """(request, attempt, due, first token, outcome) a row, in seconds."""
    return pa.table(
        {
            "request_id": [row[0] for row in rows],
            "attempt": [row[1] for row in rows],
            "scheduled_us": [round(row[2] * 1e6) for row in rows],
            "first_token_us": pa.array([None if row[3] is None else round(row[3] * 1e6) for row in rows], pa.int64()),
            "outcome": [row[4] for row in rows],
        }
    )


def test_ttft_counts_from_when_the_first_attempt_was_due() -> None:
    table = attempts((0, 1, 10.0, None, "timeout"), (0, 2, 21.0, 22.5, "ok"), (1, 1, 11.0, 11.5, "ok"))
    assert ttft_quantiles(table, 10.0, 20.0, (0.0, 1.0)) == [0.5, 12.5]


def test_who_was_never_answered_ranks_last() -> None:
    table = attempts((0, 1, 10.0, 10.25, "ok"), (1, 1, 11.0, None, "timeout"), (2, 1, 12.0, 13.0, "censored"))
    assert ttft_quantiles(table, 10.0, 20.0, (0.0, 0.5, 1.0)) == [0.25, None, None]


def test_who_was_due_at_another_time_is_left_out() -> None:
    table = attempts((0, 1, 9.9, 10.0, "ok"), (1, 1, 20.0, 20.5, "ok"))
    assert ttft_quantiles(table, 10.0, 20.0, (0.5,)) == [None]


def test_what_is_not_finite_is_nothing() -> None:
    assert finite(float(np.inf)) is None
    assert finite(float(np.nan)) is None
    assert finite(0.5) == 0.5


def gauges(*waiting: tuple[int, int]) -> Recorder:
    """What waits at two replicas, second by second."""
    recorder = Recorder()
    for t_s, queues in enumerate(waiting):
        for replica_id, queue in enumerate(queues):
            recorder.samples.append(ReplicaSample(t_s * 1_000_000, replica_id, 1, queue, 0.5, 0, 0, 0, 0))
    return recorder


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (((9, 9), (4, 4), (4, 4)), 1.0),  # spread evenly
        (((9, 0), (8, 0), (4, 0)), 2.0),  # all at one of two
        (((0, 9), (6, 2), (0, 0)), 1.5),  # 6 of a mean of 4
        (((9, 9), (0, 0), (0, 0)), None),  # what waited before is not looked at
    ],
)
def test_spill_is_the_fullest_queue_by_the_mean_one(waiting: tuple[tuple[int, int], ...], expected: float | None) -> None:
    assert spill(gauges(*waiting), 2, 1.0, 3.0) == expected
