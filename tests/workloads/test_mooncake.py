"""The Mooncake JSONL: prompts are 512-token blocks, timestamps are ticks of three seconds."""

import json
from pathlib import Path

import pytest

from tests.workloads.traces import MOONCAKE, slice_file
from workloads.description import arrival_statistics, describe
from workloads.request import Segment
from workloads.sources import SOURCES
from workloads.trace import load_trace


def write(folder: Path, *rows: object, end: str = "\n") -> Path:
    path = folder / "trace.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + end)
    return path


def row(timestamp: float, tokens: object, ids: object, output: object = 5) -> dict[str, object]:
    return {"timestamp": timestamp, "input_length": tokens, "output_length": output, "hash_ids": ids}


def test_the_last_block_is_partial_and_the_common_block_is_the_system_prompt(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, row(0, 1100, [7, 8, 9]), row(9000, 600, [7, 11]))))
    first, second = trace.conversations
    assert first.prefix == second.prefix == (Segment(7, 512),)
    assert first.turns[0].segments is not None
    assert [s.tokens for s in first.turns[0].segments] == [512, 76]
    assert first.turns[0].segments[0] == Segment(8, 512)
    assert first.turns[0].segments[1].content_id != 9, "a partial block is not the whole block of the same id"
    assert second.turns[0].user_tokens == 88
    assert second.turns[0].reply_tokens == 5


def test_a_prompt_always_keeps_something_of_its_own(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, row(0, 512, [7]), row(3000, 1024, [7, 8]))))
    assert [c.prefix for c in trace.conversations] == [(), ()]


def test_jitter_is_seeded_stays_within_the_tick_and_is_counted(tmp_path: Path) -> None:
    path = str(write(tmp_path, *(row(3000 * (i // 10), 512, [i]) for i in range(100))))
    one, again, other = load_trace(path, seed=1), load_trace(path, seed=1), load_trace(path, seed=2)
    starts = [c.start_s for c in one.conversations]
    assert starts == [c.start_s for c in again.conversations] != [c.start_s for c in other.conversations]
    assert starts == sorted(starts, key=lambda s: s or 0.0)
    assert len(set(starts)) == 100
    assert one.provenance["rows_changed"] == {"timestamp moved by U(0, 3 s) within its tick, seed 1": 100}


def test_timestamps_that_are_no_ticks_stay_as_they_are(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, row(7000, 512, [1]), row(1500.5, 512, [2]))))
    assert [(c.conversation_id, c.start_s) for c in trace.conversations] == [("line-2", 0.0), ("line-1", 5.4995)]
    assert trace.provenance["rows_changed"] == {}
    assert trace.provenance["first_start_us"] == 1_500_500


def test_the_other_traces_have_the_same_format(tmp_path: Path) -> None:
    path = write(tmp_path, row(0, 512, [1]))
    assert load_trace(str(path)).source == "mooncake"
    for name in ("mooncake_toolagent", "mooncake_synthetic"):
        assert load_trace(str(path), name).source == name
        assert SOURCES[name].published["sessions"] > 1000


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"timestamp": 0, "input_le', "trace.jsonl:2: not JSON: "),
        ("[1, 2]", "trace.jsonl:2: expected an object, found list"),
        (row(0, "7", [1]), "trace.jsonl:2: input_length is '7'; expected a whole number"),
        (row(0, True, [1]), "trace.jsonl:2: input_length is True"),
        (row(0, 7, [1], -1), "trace.jsonl:2: output_length is -1"),
        (row(float("nan"), 7, [1]), "trace.jsonl:2: not JSON: NaN"),
        ('{"timestamp": 1e400, "input_length": 7, "output_length": 1, "hash_ids": [1]}', "trace.jsonl:2: timestamp is inf"),
        (row(0, 7, "x"), "trace.jsonl:2: hash_ids is 'x'; expected a list of block ids"),
        (row(0, 7, [1], 1 << 31), "trace.jsonl:2: output_length is 2147483648; expected a whole number ≥ 0 and < 2147483648"),
        (row(0, 7, [1], "x" * 1_000_000), "trace.jsonl:2: output_length is 'x{59}; expected"),
        ("[" * 100_000, "trace.jsonl:2: not JSON: "),
        (row(0, 513, [1]), "trace.jsonl:2: hash_ids has 1 blocks; an input_length of 513 has 2"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, bad: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        load_trace(str(write(tmp_path, row(0, 512, [1]), bad)))
    assert "\n" not in str(raised.value)


def test_statistics_equal_those_measured_independently() -> None:
    trace = load_trace(str(slice_file(MOONCAKE)))
    facts = describe(trace)
    assert facts["sessions"] == 5719
    assert facts["prefix_reuse"] == pytest.approx(0.3472, abs=5e-5)
    for column, expected in (("input_tokens", (7640, 28637.8, 91206.9, 12870.1)), ("output_tokens", (356, 608.2, 1104.6, 345.7))):
        assert [facts[column][k] for k in ("p50", "p90", "p99", "mean")] == pytest.approx(expected, abs=0.051)
    assert facts["arrivals"]["rate_rps"] == pytest.approx(3.1774, rel=5e-4)
    assert facts["arrivals"]["gap_cv"] == pytest.approx(1.016, abs=0.03)
    assert facts["arrivals"]["iod_1s"] == pytest.approx(1.05, abs=0.05)
    assert facts["arrivals"]["iod_60s"] == pytest.approx(2.36, abs=0.15)


def test_the_literal_ticks_would_make_batches() -> None:
    import numpy as np

    lines = slice_file(MOONCAKE).read_text().splitlines()
    ticks = arrival_statistics(np.array([json.loads(line)["timestamp"] / 1e3 for line in lines]))
    assert ticks["gap_cv"] == pytest.approx(2.923, abs=1e-3)
    assert ticks["iod_1s"] == pytest.approx(7.44, abs=6e-3)
