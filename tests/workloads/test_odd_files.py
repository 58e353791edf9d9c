"""Trouble as it comes in real life: what is no file, what changes while it is read, odd encodings, and what would cost much."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workloads.chat_files import WILDCHAT_SCHEMA, wildchat
from tests.workloads.valid_samples import PACKERS, SAMPLES
from workloads.sources import SOURCES
from workloads.sources.servegen.histograms import TokenLengths
from workloads.sources.source import ReadOptions, Tally
from workloads.trace import import_trace, load_trace
from workloads.trace_table import Trace

PUBLIC = [name for name in SOURCES if name != "synthetic"]
AZURE = SAMPLES["azure_2023"].files["a.csv"]


@pytest.fixture(autouse=True)
def _no_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def hung(*_: object) -> None:
        raise TimeoutError("a read that never ends")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refusal(path: Path | str, source: str | None = None) -> str:
    with pytest.raises(ValueError, match=f"^{path}") as raised:
        load_trace(str(path), source)
    said = str(raised.value)
    assert said.isprintable()
    return said.removeprefix(str(path))


def own_table(folder: Path, **columns: Any) -> Path:
    path = folder / "own.parquet"
    rows = len(next(iter(columns.values())))
    pq.write_table(pa.table({"input_tokens": [1] * rows, "output_tokens": [2] * rows, **columns}), path)
    return path


class TestNoFile:
    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom", "/dev/null"])
    def test_a_device(self, tmp_path: Path, path: str) -> None:
        assert ": no such trace: neither a file" in refusal(path)
        with pytest.raises(ValueError, match="neither a file"):
            import_trace("own", path, tmp_path / "out.parquet")

    def test_a_pipe_and_a_link_to_itself(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("link")
        for name in ("pipe", "link"):
            assert ": no such trace: neither a file" in refusal(tmp_path / name, "mooncake")

    @pytest.mark.parametrize("source", PUBLIC)
    def test_a_folder_without_anything(self, tmp_path: Path, source: str) -> None:
        assert refusal(tmp_path, source).startswith((": a folder", ": no "))
        assert ": not recognised as any of" in refusal(tmp_path)

    def test_a_folder_of_shards_with_pipes_loops_and_foreign_files(self, tmp_path: Path) -> None:
        written(tmp_path / "x.jsonl", SAMPLES["wildchat_lines"].files["w.jsonl"])
        self._litter(tmp_path, "a.jsonl", "a.parquet")
        assert len(load_trace(str(tmp_path))) == 2

    def test_a_folder_of_clients_with_pipes_loops_and_foreign_files(self, tmp_path: Path) -> None:
        folder = SAMPLES["servegen"].write(tmp_path)
        clean = load_trace(str(folder))
        self._litter(folder, "chunk-7-trace.csv", "chunk-7-dataset.json", "chunk-8-trace.csv.json")
        (folder / "chunk-9-trace.csv").mkdir()
        assert load_trace(str(folder)).table.equals(clean.table)

    def test_a_folder_of_sessions_with_pipes_loops_and_foreign_files(self, tmp_path: Path) -> None:
        folder = SAMPLES["agent_folder"].write(tmp_path)
        self._litter(folder, "0.json", "1.json")
        assert len(load_trace(str(folder))) == 3

    def _litter(self, folder: Path, *pipes: str) -> None:
        for name in pipes:
            os.mkfifo(folder / name)
        (folder / "again").symlink_to(folder)
        (folder / "self").symlink_to("self")
        written(folder / ".DS_Store", b"\x00")
        written(folder / "read me.md", b"hello")


class TestChanging:
    """A file that is another one at the end than it was at the beginning gives an error, never fewer rows."""

    @pytest.mark.parametrize("source", ["azure_llm_2023", "own"])
    @pytest.mark.parametrize("size", [9_000_000, 11_000_010])
    def test_a_table_that_is_cut_or_grows(self, tmp_path: Path, source: str, size: int) -> None:
        path = written(tmp_path / "a.csv", AZURE + (AZURE.splitlines()[1] + b"\n") * 280_000)
        tables = SOURCES[source].read(path, ReadOptions(), Tally())
        next(tables)
        os.truncate(path, size)
        with pytest.raises(ValueError, match=r"a\.csv:\d+: "):
            list(tables)

    def test_a_parquet_file_that_is_cut(self, tmp_path: Path) -> None:
        path = tmp_path / "w.parquet"
        rows = [wildchat(f"w{i}", i, (os.urandom(100).hex(), "a", 5.0)) for i in range(10_400)]
        pq.write_table(pa.Table.from_pylist(rows, schema=WILDCHAT_SCHEMA), path, row_group_size=100)
        tables = SOURCES["wildchat"].read(path, ReadOptions(), Tally())
        next(tables)
        os.truncate(path, path.stat().st_size // 2)
        with pytest.raises(ValueError, match=r"^[^\n]*w\.parquet: not readable as Parquet behind row \d+: [^\n]*$"):
            list(tables)


class TestOddText:
    @pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if sample.text and len(sample.files) == 1])
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
    def test_another_encoding(self, tmp_path: Path, name: str, encoding: str) -> None:
        sample = SAMPLES[name]
        content = next(iter(sample.files.values())).decode().encode(encoding)
        path = written(tmp_path / next(iter(sample.files)), content)
        assert re.match(r":\d+: ", refusal(path, sample.sources[0]))
        assert ": not recognised as any of" in refusal(path)

    @pytest.mark.parametrize("name", ["azure_2023", "burstgpt_1", "burstgpt_3", "mooncake", "qwen", "agent_raw", "otel_lines"])
    def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(self, tmp_path: Path, name: str) -> None:
        sample = SAMPLES[name]
        ((file, content),) = sample.files.items()
        plain = load_trace(str(written(tmp_path / file, content)))
        marked = written(tmp_path / "w" / file, b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
        assert load_trace(str(marked)).table.equals(plain.table)

    @pytest.mark.parametrize("name", ["azure_2023", "burstgpt_1"])
    def test_a_comment_and_a_letter_of_windows_are_named_by_their_line(self, tmp_path: Path, name: str) -> None:
        sample = SAMPLES[name]
        ((file, content),) = sample.files.items()
        line = content.count(b"\n") + 1
        for odd in (b"# the end\n", b"Chat\xe9" + b"," * content.splitlines()[0].count(b",") + b"\n"):
            assert refusal(written(tmp_path / file, content + odd), sample.sources[0]).startswith(f":{line}: ")

    def test_what_a_terminal_would_obey_is_never_in_an_error(self, tmp_path: Path) -> None:
        path = written(tmp_path / "c.csv", b"\x1b[2Jisl\x85,osl\r\n1,2,3\r\n")
        assert refusal(path, "own").startswith(":")
        table = own_table(tmp_path, **{"\x1b\ntimestamp\u2028": ["now"]})
        assert "\\x1b" in refusal(table, "own")

    def test_an_object_over_several_lines_is_named_by_the_line_where_it_breaks(self, tmp_path: Path) -> None:
        content = SAMPLES["agent_indented"].files["g.json"].replace(b'"id": "a",', b'"id": "a";')
        assert refusal(written(tmp_path / "g.json", content), "agent_sessions").startswith(":2: not JSON: ")


class TestPacked:
    @pytest.mark.parametrize("kind", PACKERS)
    def test_an_error_names_the_archive_not_the_copy_that_is_gone(self, tmp_path: Path, kind: str) -> None:
        path = written(tmp_path / f"a.csv.{kind}", PACKERS[kind](AZURE + b"now,1,1\n"))
        inner = "/inner" if "zip" in kind else ""
        assert refusal(path, "azure_llm_2023").startswith(f"{inner}:6: TIMESTAMP is 'now'")

    def test_a_parquet_file_that_is_no_longer_whole_is_recognised_as_nothing(self, tmp_path: Path) -> None:
        whole = SAMPLES["wildchat_parquet"].files["w.parquet"]
        path = written(tmp_path / "w.parquet", whole[:-8])
        assert [name for name, source in SOURCES.items() if source.recognises(path)] == []
        assert ": not a whole Parquet file" in refusal(path)


class TestOddColumns:
    @pytest.mark.parametrize("unit", ["ms", "us", "ns"])
    @pytest.mark.parametrize("zone", [None, "UTC", "Mars/Phobos"])
    def test_times_beyond_the_calendar(self, tmp_path: Path, unit: str, zone: str | None) -> None:
        ticks = pa.array([0, 2**63 - 1, None]).cast(pa.timestamp(unit, zone))
        path = own_table(tmp_path, timestamp=ticks.slice(0, 2))
        if unit == "ms":
            assert re.match(r": row [12]: timestamp is ", refusal(path, "own"))
        assert refusal(own_table(tmp_path, timestamp=ticks), "own").startswith(": row ")

    def test_dates_are_times(self, tmp_path: Path) -> None:
        path = own_table(tmp_path, timestamp=pa.array([19_000, 19_001], pa.date32()))
        assert load_trace(str(path)).start_s.tolist() == [0.0, 86_400.0]

    def test_turns_millennia_apart_have_an_unknown_gap(self, tmp_path: Path) -> None:
        starts = ("0001-01-01", "2023-11-16", "2023-11-17")
        path = written(tmp_path / "c.csv", b"session_id,start_time,isl,osl\n" + "".join(f"a,{s},5,1\n" for s in starts).encode())
        trace = load_trace(str(path))
        assert [turn.gap_s for turn in trace.conversations[0].turns] == [None, None, 86_400.0]
        assert trace.provenance["rows_changed"]["more than 285 years between turns: the time is unknown"] == 1

    def test_two_columns_of_one_name(self, tmp_path: Path) -> None:
        table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array(["a"]), pa.array(["b"])], ["isl", "osl", "x", "x"])
        pq.write_table(table, tmp_path / "t.parquet")
        assert len(load_trace(str(tmp_path / "t.parquet"))) == 1
        pq.write_table(table.rename_columns(["isl", "osl", "model", "model"]), tmp_path / "t.parquet")
        assert ": model could be any of 'model', 'model'" in refusal(tmp_path / "t.parquet", "own")

    def test_lists_as_deep_as_json_can_just_hold(self, tmp_path: Path) -> None:
        for depth in range(100, 1000, 7):
            nested = b"[" * depth + b"]" * depth
            path = written(tmp_path / "b.jsonl", b'{"input_tokens": 1, "output_tokens": 1, "hash_ids": ' + nested + b"}\n")
            with pytest.raises(ValueError, match=r"^[^\n]*b\.jsonl:1: "):
                load_trace(str(path), "own", columns={"hash_ids": "hash_ids", "block_tokens": "16"})


class TestCost:
    """What a small file can ask for is bounded."""

    def test_a_session_known_by_lengths_has_a_bounded_number_of_requests(self, tmp_path: Path) -> None:
        step = {"session_id": "a", "input_tokens": 5, "output_tokens": 9, "api_time_s": 1.0}
        lines = "".join(json.dumps({**step, "turn_index": i, "input_tokens": i}) + "\n" for i in range(5_001))
        path = written(tmp_path / "n.jsonl", lines.encode())
        assert refusal(path) == ":5001: session 'a' has more than the 5000 requests allowed"

    def test_reasons_that_quote_the_file_are_bounded(self, tmp_path: Path) -> None:
        trace = self._spans(tmp_path, 1000)
        dropped = trace.provenance["rows_dropped"]
        assert sum(dropped.values()) == trace.provenance["rows_read"] == 1000
        assert len(dropped) == 101
        assert dropped["span of another operation"] == 900

    def _spans(self, folder: Path, count: int) -> Trace:
        span = {"name": "x", "context": {}, "start_time": "2024-11-12T08:26:40Z", "end_time": "2024-11-12T08:26:41Z"}
        lines = (json.dumps({**span, "attributes": {"gen_ai.operation.name": f"\x1b[{i}m"}}) + "\n" for i in range(count))
        return load_trace(str(written(folder / "o.jsonl", "".join(lines).encode())))

    def test_a_histogram_costs_a_few_bytes_for_each_of_its_own(self, tmp_path: Path) -> None:
        """Python's parser takes 8 GB and half a minute for 16 MB of these."""
        literal = "{" + "1:1," * 1_000_000 + "}"
        path = written(tmp_path / "chunk-0-dataset.json", json.dumps({"0": {"input_tokens": literal}}).encode())
        histogram = TokenLengths(path).at(0, "input_tokens")
        assert histogram is not None
        assert histogram.tokens.tolist() == [1]
        path.write_text(json.dumps({"0": {"input_tokens": literal * 2}}))
        with pytest.raises(ValueError, match="of up to 4194304 characters"):
            TokenLengths(path).at(0, "input_tokens")

    def test_the_busiest_hour_is_cut_where_its_traffic_is_and_not_before(self, tmp_path: Path) -> None:
        rows = "".join(f"{600 * i},0,0,,0,0\n" for i in range(5)) + "3000,5000,1,Gamma,1,1\n"
        folder = SAMPLES["servegen"].write(tmp_path, {"chunk-0-trace.csv": rows.encode()})
        trace = load_trace(str(folder))
        assert int((trace.tenant == 0).sum()) == pytest.approx(1_000_000, rel=0.01)
