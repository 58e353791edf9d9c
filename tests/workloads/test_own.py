"""A user's own table: its columns are mapped or guessed, its calls are grouped where it names sessions."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.workloads.slice_statistics import arrivals, percentiles
from tests.workloads.traces import slice_file
from workloads.sources.column_names import KEYS
from workloads.sources.own import OWN, read, recognises
from workloads.sources.source import ReadOptions, Tally
from workloads.trace import load_trace
from workloads.trace_table import Trace, joined

AIBRIX = "aibrix_8min_up_and_down/lengths_only_full.csv"
VIDUR_ARXIV = "vidur_processed/arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv"
VIDUR_CONV = "vidur_processed/splitwise_conv.csv"


def write(folder: Path, text: str, name: str = "calls.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def loaded(path: Path, **columns: str) -> Trace:
    tally = Tally()
    table = joined(read(path, ReadOptions(columns=columns), tally))
    return Trace.of_table("own", table, OWN.provenance(path, tally))


def turns(trace: Trace) -> list[list[tuple[int, int]]]:
    return [[(t.user_tokens, t.reply_tokens) for t in c.turns] for c in trace.conversations]


def test_usual_names_need_no_mapping_and_the_provenance_says_what_was_taken(tmp_path: Path) -> None:
    path = write(
        tmp_path, "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-05-10 00:00:01,2,9,4\n2024-05-10 00:00:03,0,8,5\n"
    )
    trace = loaded(path)
    assert turns(trace) == [[(9, 4)], [(8, 5)]]
    assert trace.start_s.tolist() == [0.0, 2.0]
    assert trace.provenance["notes"][0] == (
        "columns: input_tokens=ContextTokens, output_tokens=GeneratedTokens, start_time=TIMESTAMP"
    )


@pytest.mark.parametrize(
    ("key", "values", "gap_s"),
    [
        ("start_s", ("0.25", "1.75"), 1.5),
        ("start_s", ("1700000000.000001", "1700000000.000003"), 0.000002),
        ("start_ms", ("250", "1750.5"), 1.5005),
        ("start_us", ("250", "1750"), 0.0015),
        ("start_ns", ("1700000000000000000", "1700000000000001999"), 0.000001),
        ("start_time", ("2024-05-10T00:00:00Z", "2024-05-10 02:00:01.5+02:00"), 1.5),
        ("start_time", ("2023-11-16 18:15:46.6805900", "2023-11-16 18:15:46.6805919"), 0.000001),
    ],
)
def test_every_clock_counts_in_its_unit(tmp_path: Path, key: str, values: tuple[str, str], gap_s: float) -> None:
    path = write(tmp_path, "when,isl,osl\n" + "".join(f"{value},1,2\n" for value in values))
    assert loaded(path, **{key: "when"}).start_s.tolist() == [0.0, gap_s]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_any_usual_delimiter_and_quoted_texts(tmp_path: Path, delimiter: str) -> None:
    rows = [["prompt", "in", "out"], [f'"a{delimiter}\n""b"""', "3", "4.0"]]
    path = write(tmp_path, "\n".join(delimiter.join(row) for row in rows))
    assert turns(loaded(path, input_tokens="in", output_tokens="out")) == [[(3, 4)]]


CALLS = """t,conv_id,user,in,out,model
0,a,u1,100,10,big
1,b,u2,50,5,small
5,a,u1,130,20,big
9,a,u1,60,7,big
7,,u2,5,6,
"""


def test_a_session_is_its_calls_in_order_of_time_and_a_prompt_is_whole(tmp_path: Path) -> None:
    trace = loaded(write(tmp_path, CALLS), start_s="t", input_tokens="in", output_tokens="out")
    assert turns(trace) == [[(100, 10), (20, 20), (60, 7)], [(50, 5)], [(5, 6)]]
    assert [t.restarts for t in trace.conversations[0].turns] == [False, False, True]
    assert [t.gap_s for t in trace.conversations[0].turns] == [None, 5.0, 4.0]
    assert [(c.tenant, c.model) for c in trace.conversations] == [(1, "big"), (2, "small"), (2, None)]
    assert trace.provenance["rows_changed"] == {
        "out of time order: sorted": 1,
        "prompt shorter than the turns before it: taken as fresh content": 1,
    }


def test_new_messages_alone_are_taken_as_they_are(tmp_path: Path) -> None:
    trace = loaded(write(tmp_path, CALLS), start_s="t", user_tokens="in", output_tokens="out")
    assert turns(trace) == [[(100, 10), (130, 20), (60, 7)], [(50, 5)], [(5, 6)]]
    assert not trace.restarts.any()


def test_without_a_clock_a_session_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "conv_id,isl,osl,think_s\nb,10,1,\na,20,2,\nb,15,3,2.5\n")
    trace = loaded(path)
    assert [c.conversation_id for c in trace.conversations] == ["b", "a"]
    assert turns(trace) == [[(10, 1), (4, 3)], [(20, 2)]]
    assert [t.think_s for t in trace.conversations[0].turns] == [None, 2.5]
    assert not trace.has_timestamps


def test_json_lines_and_parquet_hold_the_same_as_csv(tmp_path: Path) -> None:
    rows = [
        {"t": 0, "conv_id": "a", "user": 7, "in": 100, "out": 10, "model": "big"},
        {"t": 1, "conv_id": None, "user": 8, "in": 50, "out": 5, "model": None},
        {"t": 5.5, "conv_id": "a", "user": 7, "in": 130, "out": 20, "model": "big"},
    ]
    as_lines = write(tmp_path, "\n".join(map(json.dumps, rows)), "calls.jsonl")
    pl.DataFrame(rows, strict=False).write_parquet(tmp_path / "calls.parquet")
    pl.DataFrame(rows, strict=False).write_csv(tmp_path / "calls.csv")
    mapped = {"start_s": "t", "input_tokens": "in", "output_tokens": "out"}
    ours = [loaded(path, **mapped) for path in (as_lines, tmp_path / "calls.parquet", tmp_path / "calls.csv")]
    assert turns(ours[0]) == [[(100, 10), (20, 20)], [(50, 5)]]
    assert ours[0].conversations == ours[1].conversations == ours[2].conversations


def test_block_ids_make_prompts_that_share(tmp_path: Path) -> None:
    rows = [
        {"t": 1, "prompt_tokens": 40, "output_tokens": 2, "session": "s", "hash_ids": [1, 2, 3]},
        {"t": 2, "prompt_tokens": 48, "output_tokens": 2, "session": "s", "hash_ids": [1, 2, 3]},
        {"t": 3, "prompt_tokens": 20, "output_tokens": 2, "session": "u", "hash_ids": [1, 9]},
    ]
    path = write(tmp_path, "\n".join(map(json.dumps, rows)), "calls.jsonl")
    trace = loaded(path, start_s="t", hash_ids="hash_ids", block_tokens="16")
    first, second = trace.conversations
    assert [t.restarts for t in first.turns] == [False, True]
    segments = [t.segments for t in (*first.turns, *second.turns)]
    assert [[s.tokens for s in row or ()] for row in segments] == [[16, 16, 8], [16, 16, 16], [16, 4]]
    ids = [[s.content_id for s in row or ()] for row in segments]
    assert ids[0][:2] == ids[1][:2] == [1, 2]
    assert ids[2][0] == 1
    assert len({ids[0][2], ids[1][2], ids[2][1]}) == 3  # a partial block is not the whole one


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("a,b\n1,2\n", {}, r"calls.csv:1: no column for input_tokens among 'a', 'b'; say which: --map input_tokens=COLUMN"),
        ("isl,b\n1,2\n", {}, r"no column for output_tokens among 'isl', 'b'; say which: --map output_tokens=COLUMN"),
        ("isl,osl,prompt_len\n", {}, r"input_tokens could be any of 'isl', 'prompt_len'; say which"),
        ("isl,osl,timestamp\n1,2,3\n", {}, r"'timestamp' holds times in an unknown unit; say it: --map start_s=timestamp"),
        ("isl,osl\n", {"output_token": "osl"}, r"--map output_token=osl: no such key; allowed: input_tokens, "),
        ("isl,osl\n", {"input_tokens": "x"}, r"--map input_tokens=x: no such column; its columns: 'isl', 'osl'"),
        ("isl,osl\n", {"input_tokens": "isl", "user_tokens": "osl"}, r"--map input_tokens= and user_tokens=: map one"),
        ("isl,osl,w\n", {"think_s": "w"}, r"--map think_s=w: needs --map session=… too"),
        ("isl,osl,h\n", {"hash_ids": "h", "block_tokens": "many"}, r"--map block_tokens=many: allowed: a number of tokens"),
        ("isl,osl\n1,2\nx,3\n", {}, r"calls.csv:3: isl is 'x'; expected a number of tokens"),
        ('isl,osl,q\n1,2,"a\nb"\n-1,3,c\n', {}, r"calls.csv:4: isl is '?-1'?; expected a number of tokens"),
        ("isl,osl,start_s\n1,2,nan\n", {}, r"calls.csv:2: start_s is 'nan'; expected a finite number"),
        ('{"isl": 1, "osl": true}\n', {}, r"calls.csv:1: osl is True; expected a number"),
        ('{"isl": 1, "osl": 2}\n{"isl": 1}\n', {}, r"calls.csv:2: osl is None; expected a number of tokens"),
        ('{"isl": 9, "osl": 2, "h": [1]}\n', {"hash_ids": "h", "block_tokens": "4"}, r"csv:1: h has 1 blocks; expected 3 blocks"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path: Path, text: str, columns: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        loaded(write(tmp_path, text), **columns)
    assert "\n" not in str(raised.value)


def test_a_broken_parquet_file_is_one_line(tmp_path: Path) -> None:
    pl.DataFrame({"isl": [1, 2], "osl": [3, None]}).write_parquet(tmp_path / "calls.parquet")
    with pytest.raises(ValueError, match=r"calls.parquet: row 2: osl is None; expected a number of tokens"):
        loaded(tmp_path / "calls.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "calls.parquet").read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"cut.parquet: not a whole Parquet file"):
        loaded(tmp_path / "cut.parquet")


def test_only_tables_with_lengths_are_recognised(tmp_path: Path) -> None:
    assert recognises(write(tmp_path, "isl,osl\n"))
    assert recognises(write(tmp_path, '{"prompt_tokens": 1, "completion_tokens": 2}', "a.jsonl"))
    assert not recognises(write(tmp_path, "some,other,table\n1,2,3\n"))
    assert not recognises(write(tmp_path, "a letter to a friend\n"))
    assert not recognises(tmp_path)
    assert {"input_tokens", "output_tokens", "start_time", "block_tokens"} < set(KEYS)


def test_aibrix_slice_equals_the_digits_published_with_it() -> None:
    trace = load_trace(str(slice_file(AIBRIX)))
    facts = arrivals(trace)
    assert (trace.source, len(trace), round(facts["span_s"], 1), round(facts["rate_rps"], 3)) == ("own", 2026, 455.9, 4.444)
    assert (round(facts["iat_cv"], 3), round(facts["IoD_1s"], 2)) == (1.815, 4.55)
    assert (round(facts["IoD_10s"], 2), round(facts["IoD_60s"], 2)) == (26.46, 105.93)
    inputs = percentiles(trace.user_tokens, 1, 25, 50, 75, 90, 95, 99)
    outputs = percentiles(trace.reply_tokens, 1, 25, 50, 75, 90, 95, 99)
    assert inputs == pytest.approx([33.2, 165, 263.5, 378.8, 525, 648.8, 789.2], abs=0.051)
    assert outputs == pytest.approx([1, 16, 34, 82.8, 179, 266.8, 559.8], abs=0.051)
    assert (round(float(trace.user_tokens.mean()), 1), int(trace.user_tokens.max())) == (293.6, 2415)
    assert (round(float(trace.reply_tokens.mean()), 1), int(trace.reply_tokens.max())) == (73.3, 925)
    on_its_clock_s = trace.start_s + trace.provenance["first_start_us"] / 1e6
    counts = [int(((on_its_clock_s >= t) & (on_its_clock_s < t + 30)).sum()) for t in range(0, 480, 30)]
    assert counts == [48, 41, 52, 95, 87, 212, 214, 340, 320, 203, 153, 84, 69, 61, 33, 14]


def test_vidur_slices_equal_the_digits_published_with_them() -> None:
    lengths = load_trace(str(slice_file(VIDUR_ARXIV)))
    assert (len(lengths), lengths.has_timestamps) == (5000, False)
    prefill = percentiles(lengths.user_tokens, 1, 25, 50, 75, 90, 95, 99)
    decode = percentiles(lengths.reply_tokens, 1, 25, 50, 75, 90, 95, 99)
    assert prefill == pytest.approx([58, 1944.8, 2712, 3357, 3699, 3809, 3928], abs=0.051)
    assert decode == pytest.approx([36, 114, 165, 242, 379, 879.1, 3344.3], abs=0.051)
    for values, mean, most, cv in ((lengths.user_tokens, 2565.3, 4035, 0.37), (lengths.reply_tokens, 305.3, 4056, 1.87)):
        found = (round(float(values.mean()), 1), int(values.max()), round(float(values.std() / values.mean()), 2))
        assert found == (mean, most, cv)
    timed = load_trace(str(slice_file(VIDUR_CONV)))
    assert (len(timed), timed.start_s[1]) == (300, 4.314579)
