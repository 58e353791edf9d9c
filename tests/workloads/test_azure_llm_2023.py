"""The Azure CSV: its traps are CRLF, seven-digit fractions and a last row without a line end."""

from pathlib import Path

import pytest

from tests.workloads.traces import AZURE_CODE, AZURE_CONV, slice_file
from workloads.trace import describe, load_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def write(folder: Path, *rows: str) -> Path:
    path = folder / "azure.csv"
    path.write_bytes((HEADER + "\r\n".join(rows)).encode())
    return path


def test_crlf_seven_digits_and_no_final_newline(tmp_path: Path) -> None:
    path = write(tmp_path, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109")
    trace = load_trace(str(path))
    assert [c.start_s for c in trace.conversations] == [0.0, 4.314579]
    assert [(c.turns[0].user_tokens, c.turns[0].reply_tokens) for c in trace.conversations] == [(374, 44), (396, 109)]
    assert trace.provenance["rows_read"] == 2
    assert trace.provenance["licence"] == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:51,abc,9", r"azure.csv:3: ContextTokens is 'abc'; expected a number of tokens"),
        ("2023-11-16 18:15:51,7,-9", r"azure.csv:3: GeneratedTokens is '-9'"),
        ("16/11/2023,7,9", r"azure.csv:3: TIMESTAMP is '16/11/2023'; expected a time as"),
        ("2023-11-16 18:15:51,7", r"azure.csv:3: expected TIMESTAMP,ContextTokens,GeneratedTokens, found"),
        ("2023-11-16 18:15:51,7,9,8", r"azure.csv:3: expected TIMESTAMP,ContextTokens,GeneratedTokens, found"),
        ("", r"azure.csv:3: expected"),
        ('2023-11-16 18:15:51,"7,9', r"azure.csv:3: ContextTokens is '\"7'"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: str, message: str) -> None:
    good = "2023-11-16 18:15:46.6805900,374,44"
    with pytest.raises(ValueError, match=message) as raised:
        load_trace(str(write(tmp_path, good, row, good)))
    assert "\n" not in str(raised.value)


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    trace = load_trace(str(write(tmp_path, "2023-11-16 18:00:09,1,1", "2023-11-16 18:00:01,2,2")))
    assert [(c.conversation_id, c.start_s) for c in trace.conversations] == [("row-3", 0.0), ("row-2", 8.0)]
    assert trace.provenance["rows_changed"] == {"out of time order: sorted": 1}


def test_an_empty_trace_is_empty(tmp_path: Path) -> None:
    assert load_trace(str(write(tmp_path))).conversations == ()


@pytest.mark.parametrize(
    ("file", "rows", "rate", "cv", "iod", "inputs", "outputs"),
    [
        (AZURE_CONV, 9754, 5.5634, 1.073, (1.31, 3.05, 12.49), (1035, 4075, 4122, 1237.7), (139.5, 428, 611.5, 221.1)),
        (AZURE_CODE, 5100, 3.0987, 13.685, (14.35, 78.70, 193.72), (1472.5, 5056.4, 7436, 2052.3), (13, 54, 232, 27.3)),
    ],
)
def test_statistics_equal_those_measured_independently(
    file: str,
    rows: int,
    rate: float,
    cv: float,
    iod: tuple[float, float, float],
    inputs: tuple[float, float, float, float],
    outputs: tuple[float, float, float, float],
) -> None:
    facts = describe(load_trace(str(slice_file(file))))
    arrivals = facts["arrivals"]
    assert facts["sessions"] == rows
    assert arrivals["rate_rps"] == pytest.approx(rate, abs=5e-5)
    assert arrivals["gap_cv"] == pytest.approx(cv, abs=5e-4)
    assert [arrivals[f"iod_{w}s"] for w in (1, 10, 60)] == pytest.approx(iod, abs=5.1e-3)
    for column, expected in (("input_tokens", inputs), ("output_tokens", outputs)):
        assert [facts[column][k] for k in ("p50", "p90", "p99", "mean")] == pytest.approx(expected, abs=0.051)
    assert facts["prefix_reuse"] == 0.0
