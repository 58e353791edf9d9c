"""BurstGPT: columns go by name, a zero response is a failure, and sessions come only with the third release file."""

from pathlib import Path

import pytest

from tests.workloads.traces import slice_file
from workloads.sources import SOURCES
from workloads.sources.burstgpt import BURSTGPT, BURSTGPT_1, read
from workloads.sources.source import ReadOptions, Tally
from workloads.trace import load_trace
from workloads.trace_table import Trace, joined

FIRST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
THIRD = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
TALK, API = "Conversation log", "API log"


def write(folder: Path, header: str, *rows: str, name: str = "BurstGPT_1.csv") -> Path:
    path = folder / name
    path.write_text("\n".join((header, *rows)))
    return path


def loaded(path: Path) -> Trace:
    tally = Tally()
    table = joined(read(path, ReadOptions(), tally))
    return Trace.of_table("burstgpt", table, BURSTGPT.provenance(path, tally))


def test_failures_are_dropped_and_counted_by_kind(tmp_path: Path) -> None:
    rows = (f"5,ChatGPT,472,18,490,{TALK}", f"6,GPT-4,300,0,300,{API}", f"7,GPT-4,0,0,0,{API}", f"7,GPT-4,3,4,8,{API}")
    trace = loaded(write(tmp_path, FIRST, *rows))
    assert trace.user_tokens.tolist() == [472, 3]
    assert trace.provenance["rows_read"] == 4
    assert trace.provenance["rows_dropped"] == {
        "failed request: neither request nor response tokens": 1,
        "failed request: no response tokens": 1,
    }
    assert trace.provenance["rows_changed"] == {"total is not request + response tokens: total ignored": 1}
    assert [(c.model, c.tenant, c.start_s) for c in trace.conversations] == [("ChatGPT", 1, 0.0), ("GPT-4", 2, 2.0)]
    assert not trace.provenance["has_sessions"]


def test_columns_are_read_by_name_not_by_place(tmp_path: Path) -> None:
    path = write(tmp_path, "Response tokens,Extra,Model,Timestamp,Request tokens", "18,x,ChatGPT,5.5,472")
    conversation = loaded(path).conversations[0]
    assert (conversation.turns[0].user_tokens, conversation.turns[0].reply_tokens, conversation.model) == (472, 18, "ChatGPT")
    assert loaded(path).provenance["first_start_us"] == 5_500_000


def test_a_session_is_its_rows_in_order_of_time_and_a_prompt_is_whole(tmp_path: Path) -> None:
    rows = (
        f"100.0,aa,43,GPT-4,906,446,1352,{TALK}",
        f"103.0,,2,ChatGPT,36,29,65,{API}",
        f"192.0,aa,8,GPT-4,1779,123,1902,{TALK}",  # 906 + 446 are history, 427 are new
        f"195.0,aa,8,GPT-4,1000,5,1005,{TALK}",  # shorter than what went before, and sent before that had ended
        f"195.0,bb,1,GPT-4,10,0,10,{TALK}",
        f"198.0,bb,,GPT-4,10,7,17,{TALK}",
    )
    trace = loaded(write(tmp_path, THIRD, *rows, name="BurstGPT_3.csv"))
    first, alone, last = trace.conversations
    assert (first.conversation_id, last.conversation_id) == ("aa", "bb")
    assert [(t.user_tokens, t.reply_tokens, t.gap_s, t.think_s, t.restarts) for t in first.turns] == [
        (906, 446, None, None, False),
        (427, 123, 92.0, 49.0, False),
        (1000, 5, 3.0, 0.0, True),
    ]
    assert (alone.start_s, alone.model, alone.tenant, len(alone.turns)) == (3.0, "ChatGPT", 2, 1)
    assert (last.start_s, len(last.turns)) == (98.0, 1)  # its first call failed
    assert trace.provenance["rows_dropped"] == {"failed request: no response tokens": 1}
    assert trace.provenance["rows_changed"] == {
        "prompt shorter than the turns before it: taken as fresh content": 1,
        "sent before the answer before it had ended: think time 0": 1,
    }


def test_sessions_come_in_order_of_start_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [f"{t},{s},1,GPT-4,{n},5,{n + 5},{TALK}" for t, s, n in ((9, "a", 50), (1, "a", 10), (4, "b", 7))]
    trace = loaded(write(tmp_path, THIRD, *rows, name="BurstGPT_3.csv"))
    assert [(c.conversation_id, c.start_s, [t.user_tokens for t in c.turns]) for c in trace.conversations] == [
        ("a", 0.0, [10, 35]),
        ("b", 3.0, [7]),
    ]
    assert trace.provenance["rows_changed"] == {"out of time order: sorted": 1}


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (FIRST, f"5,ChatGPT,472,x,490,{TALK}", r"csv:2: Response tokens is 'x'; expected a number of tokens"),
        (FIRST, f"soon,ChatGPT,472,1,490,{TALK}", r"csv:2: Timestamp is 'soon'; expected a finite number"),
        (FIRST, f"inf,ChatGPT,472,1,490,{TALK}", r"csv:2: Timestamp is 'inf'"),
        (FIRST, "5,ChatGPT,472,1,473,Chat", r"csv:2: Log Type is 'Chat'; expected 'Conversation log' or 'API log'"),
        (FIRST, "5,ChatGPT,472", r"csv:2: expected Timestamp,Model,"),
        (THIRD, f"5,a,-3,GPT-4,4,1,5,{TALK}", r"csv:2: Elapsed time is '-3'; expected a number of seconds ≥ 0"),
        ("Timestamp,Model,Request tokens", "1,a,2", r"csv:1: no column 'Response tokens' among"),
    ],
)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loaded(write(tmp_path, header, row))


def test_versions_are_recognised_by_sessions_and_file_name(tmp_path: Path) -> None:
    assert BURSTGPT.recognises(write(tmp_path, THIRD, name="BurstGPT_3.csv"))
    assert BURSTGPT_1.recognises(write(tmp_path, FIRST, name="BurstGPT_without_fails_1.csv"))
    assert not BURSTGPT.recognises(tmp_path / "BurstGPT_without_fails_1.csv")
    assert BURSTGPT.recognises(write(tmp_path, FIRST, name="renamed.csv"))
    assert len(loaded(tmp_path / "BurstGPT_3.csv")) == 0


def test_the_slice_loads_with_its_failure_counted() -> None:
    trace = load_trace(str(slice_file("burstgpt_head/BurstGPT_1.csv")))
    assert (trace.source, len(trace), trace.provenance["rows_read"]) == ("burstgpt_1", 29, 30)
    assert sum(trace.provenance["rows_dropped"].values()) == 1
    assert [name for name in SOURCES if name.startswith("burstgpt")] == ["burstgpt", "burstgpt_1", "burstgpt_2"]
