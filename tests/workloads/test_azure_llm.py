"""The Azure CSVs: their traps are CRLF, seven-digit fractions, offsets, and a last row without a line end."""

from pathlib import Path

import pytest

from tests.workloads.slice_statistics import arrivals, percentiles
from tests.workloads.traces import AZURE_CODE, AZURE_CONV, slice_file
from workloads.sources import SOURCES
from workloads.sources.azure_llm import AZURE_LLM_2023, AZURE_LLM_2024, read
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.trace import load_trace
from workloads.trace_table import Trace, joined

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROW = "2023-11-16 18:15:46.6805900,374,44"


def write(folder: Path, *rows: str, end: str = "\r\n", name: str = "azure.csv", bom: bytes = b"") -> Path:
    path = folder / name
    path.write_bytes(bom + end.join((HEADER, *rows)).encode())
    return path


def loaded(path: Path, source: Source = AZURE_LLM_2023) -> Trace:
    tally = Tally()
    table = joined(read(path, ReadOptions(), tally))
    return Trace.of_table(source.name, table, source.provenance(path, tally))


def test_crlf_seven_digits_and_no_final_newline(tmp_path: Path) -> None:
    trace = loaded(write(tmp_path, ROW, "2023-11-16 18:15:50.9951690,396,109"))
    assert [c.start_s for c in trace.conversations] == [0.0, 4.314579]
    assert [(c.turns[0].user_tokens, c.turns[0].reply_tokens) for c in trace.conversations] == [(374, 44), (396, 109)]
    assert trace.provenance["rows_read"] == 2
    assert trace.provenance["licence"] == "CC-BY-4.0"
    assert trace.provenance["first_start_us"] == 1_700_158_546_680_590


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_offsets_and_whole_seconds_of_2024_share_a_clock_with_naive_times(tmp_path: Path, end: str, bom: bytes) -> None:
    rows = ("2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 00:00:01+00:00,2,6", "2024-05-10 00:00:02,3,7", "")
    trace = loaded(write(tmp_path, *rows, end=end, bom=bom), AZURE_LLM_2024)
    assert trace.start_s.tolist() == [0.0, 0.99007, 1.99007]
    assert trace.user_tokens.tolist() == [2162, 2, 3]


@pytest.mark.parametrize(
    ("name", "row", "source"),
    [
        ("a_conv.csv", ROW, "azure_llm_2023"),
        ("a_code.csv", ROW, "azure_llm_2023_code"),
        ("a_conv_1week.csv", "2024-05-10 00:00:00.009930+00:00,2162,5", "azure_llm_2024"),
        ("a_code_1week.csv", "2024-05-10 00:00:00+00:00,2162,5", "azure_llm_2024_code"),
    ],
)
def test_year_and_kind_are_recognised(tmp_path: Path, name: str, row: str, source: str) -> None:
    path = write(tmp_path, row, name=name)
    assert next(s.name for s in SOURCES.values() if s.recognises(path)) == source
    assert load_trace(str(path)).source == source


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2023-11-16 18:15:51,abc,9", r"azure.csv:3: ContextTokens is 'abc'; expected a number of tokens"),
        ("2023-11-16 18:15:51,7,-9", r"azure.csv:3: GeneratedTokens is '?-9'?; expected"),
        ("2023-11-16 18:15:51,0x10,9", r"azure.csv:3: ContextTokens is '0x10'"),
        ("2023-11-16 18:15:51,2147483648,9", r"azure.csv:3: ContextTokens is '2147483648'"),
        ("2023-11-16 18:15:51,7.5,9", r"azure.csv:3: ContextTokens is '7.5'"),
        ("2023-11-16 18:15:51,NaN,9", r"azure.csv:3: ContextTokens is 'NaN'"),
        ("2023-11-16 18:15:51,,9", r"azure.csv:3: ContextTokens is ''"),
        ("16/11/2023,7,9", r"azure.csv:3: TIMESTAMP is '16/11/2023'; expected a time as"),
        ("2023-11-16 25:15:51,7,9", r"azure.csv:3: TIMESTAMP is '2023-11-16 25:15:51'"),
        ("2023-11-16 18:15:51,7", r"azure.csv:3: expected TIMESTAMP,ContextTokens,GeneratedTokens, found"),
        ("2023-11-16 18:15:51,7,9,8", r"azure.csv:3: expected TIMESTAMP,ContextTokens,GeneratedTokens, found"),
        ("", r"azure.csv:3: expected"),
        ("2023-11-16 18:15:51\r,7,9", r"azure.csv:3: a carriage return inside a row"),
        ('2023-11-16 18:15:51,"7,9', r"azure.csv:3: ContextTokens is '\"7'"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        loaded(write(tmp_path, ROW, row, ROW))
    assert "\n" not in str(raised.value)


def test_text_that_is_not_utf8_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, ROW)
    path.write_bytes(path.read_bytes() + b"\r\n2023-11-16 \xff18:15:51,7,9")
    with pytest.raises(ValueError, match=r"azure.csv:4: not UTF-8 text"):
        loaded(path)


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    trace = loaded(write(tmp_path, "2023-11-16 18:00:09,1,1", "2023-11-16 18:00:01,2,2"))
    assert trace.user_tokens.tolist() == [2, 1]
    assert trace.start_s.tolist() == [0.0, 8.0]
    assert trace.provenance["rows_changed"] == {"out of time order: sorted": 1}


def test_an_empty_trace_is_empty_and_an_empty_file_is_none(tmp_path: Path) -> None:
    assert len(loaded(write(tmp_path))) == 0
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.csv:1: expected a header"):
        loaded(tmp_path / "empty.csv")


@pytest.mark.parametrize(
    ("file", "rows", "rate", "cv", "iod", "inputs", "outputs"),
    [
        (
            *(AZURE_CONV, 9754, 5.5634, 1.073, (1.31, 3.05, 12.49)),
            (40, 398, 1035, 1200.8, 4075, 4086, 4122, 1237.7, 14050),
            (16, 81, 139.5, 397, 428, 463, 611.5, 221.1, 1000),
        ),
        (
            *(AZURE_CODE, 5100, 3.0987, 13.685, (14.35, 78.70, 193.72)),
            (22, 594.5, 1472.5, 2748.5, 5056.4, 7294.4, 7436, 2052.3, 7437),
            (6, 9, 13, 23, 54, 85, 232, 27.3, 1899),
        ),
    ],
)
def test_statistics_equal_those_measured_independently(
    file: str,
    rows: int,
    rate: float,
    cv: float,
    iod: tuple[float, ...],
    inputs: tuple[float, ...],
    outputs: tuple[float, ...],
) -> None:
    trace = load_trace(str(slice_file(file)))
    facts = arrivals(trace)
    assert (len(trace), round(facts["rate_rps"], 4), round(facts["iat_cv"], 3)) == (rows, rate, cv)
    assert [facts[f"IoD_{w}s"] for w in (1, 10, 60)] == pytest.approx(iod, abs=5.1e-3)
    for values, expected in ((trace.user_tokens, inputs), (trace.reply_tokens, outputs)):
        found = [*percentiles(values, 1, 25, 50, 75, 90, 95, 99), values.mean(), values.max()]
        assert found == pytest.approx(expected, abs=0.051)
