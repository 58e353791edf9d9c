"""WildChat: answers' times, users as tenants, hashes that are no keys; Parquet of both releases and JSON lines."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.workloads.chat_files import START, WILDCHAT_SCHEMA, Row, wildchat, write_json_lines, write_parquet
from workloads.conversations_file import content_hash
from workloads.sources.chat_messages import time_us
from workloads.trace import import_trace, load_trace

ROWS = [
    wildchat("h1", 100, ("hola", "buenas", 60.0), ("y?", "nada", 95.5), user="u1"),
    wildchat("h2", 200, ("hi", "hello", 10.25), user="u2"),
    wildchat("h3", 300, ("hm", "yes", 70.0), ("ok", "right", 65.0), ("so", "thus", 80.0), user="u1"),
]
START_US = 1_680_998_573_000_000


def loaded(folder: Path, rows: list[Row]) -> Any:
    return load_trace(str(write_parquet(folder / "chats.parquet", rows, WILDCHAT_SCHEMA)), texts=True)


def test_a_turn_is_as_old_as_its_answer(tmp_path: Path) -> None:
    trace = loaded(tmp_path, ROWS)
    assert trace.source == "wildchat"
    assert trace.provenance["has_timestamps"]
    assert trace.provenance["first_start_us"] == START_US + 10_250_000
    first, second, third = trace.conversations
    assert [(c.conversation_id, c.start_s) for c in (first, second, third)] == [("h2", 0.0), ("h1", 49.75), ("h3", 59.75)]
    assert [t.gap_s for t in second.turns] == [None, 35.5]
    assert [t.gap_s for t in third.turns] == [None, None, 15.0]
    assert trace.provenance["rows_changed"] == {
        "answers out of time order: their gaps unknown": 1,
        "out of time order: sorted": 1,
    }


def test_users_are_tenants_from_one_in_order_of_appearance(tmp_path: Path) -> None:
    nobody = {**wildchat("h4", 400, ("a", "b", 300.0)), "hashed_ip": None}
    nameless = wildchat("h5", 500, ("a", "b", 400.0))
    for message in nameless["conversation"]:
        message["hashed_ip"] = None
    trace = loaded(tmp_path, [*ROWS, nobody, {**nameless, "hashed_ip": None}])
    assert {c.conversation_id: c.tenant for c in trace.conversations} == {"h1": 1, "h2": 2, "h3": 1, "h4": 3, "h5": 0}


@pytest.mark.parametrize("form", ["iso", "milliseconds", "folder", "without_zone"])
def test_every_form_gives_the_same_trace(tmp_path: Path, form: str) -> None:
    expected = loaded(tmp_path, ROWS)
    if form == "folder":
        path = tmp_path / "shards"
        path.mkdir()
        for i, row in enumerate(ROWS):
            write_parquet(path / f"train-{i:05d}-of-00003.parquet", [row], WILDCHAT_SCHEMA)
    elif form == "without_zone":  # WildChat-4.8M
        utterance = WILDCHAT_SCHEMA.field("conversation").type.value_type
        fields = {f.name: pa.timestamp("us") if f.name == "timestamp" else f.type for f in utterance}
        schema = WILDCHAT_SCHEMA.set(2, pa.field("timestamp", pa.timestamp("us")))
        schema = schema.set(3, pa.field("conversation", pa.list_(pa.struct(fields))))
        path = write_parquet(tmp_path / "4.8M.parquet", [_naive(row) for row in ROWS], schema)
    else:
        path = write_json_lines(tmp_path / "chats.jsonl", ROWS, form)
    trace = load_trace(str(path), texts=True)
    assert trace.conversations == expected.conversations
    assert trace.provenance["first_start_us"] == expected.provenance["first_start_us"]


def _naive(row: Row) -> Row:
    def bare(time: datetime | None) -> datetime | None:
        return None if time is None else time.replace(tzinfo=None)

    talk = [{**m, "timestamp": bare(m["timestamp"])} for m in row["conversation"]]
    return {**row, "timestamp": bare(row["timestamp"]), "conversation": talk}


def test_an_equal_hash_is_another_chat_unless_its_turns_are_the_same(tmp_path: Path) -> None:
    other = wildchat("h2", 201, ("hi", "hello", 500.0), user="u9")
    trace = loaded(tmp_path, [*ROWS, other, ROWS[0], {**ROWS[1], "model": "gpt-4"}])
    assert [c.conversation_id for c in trace.conversations] == ["h2", "h1", "h3", "h2-201-201-2"]
    assert trace.provenance["rows_dropped"] == {"repeated id": 2}
    assert trace.provenance["rows_changed"]["hash of an earlier chat, other turns: named by both"] == 1


def test_without_turn_ids_the_times_tell_chats_apart(tmp_path: Path) -> None:
    rows = [ROWS[1], wildchat("h2", 1, ("hi", "hello", 20.0)), ROWS[1]]
    bare = [{**r, "conversation": [{**m, "turn_identifier": None} for m in r["conversation"]]} for r in rows]
    trace = loaded(tmp_path, bare)
    assert len(trace) == 2
    assert trace.provenance["rows_dropped"] == {"repeated id": 1}


def test_chats_without_times(tmp_path: Path) -> None:
    """A first answer without a time: the chat's own; none at all: dropped, so that the trace keeps its clock."""
    lacks_first = wildchat("a", 1, ("q", "a", None), ("q", "a", 40.0))
    lacks_middle = wildchat("b", 11, ("q", "a", 10.0), ("q", "a", None), ("q", "a", 40.0))
    trace = loaded(tmp_path, [lacks_first, lacks_middle, wildchat("c", 21, ("q", "a", None))])
    assert [(c.conversation_id, c.start_s, [t.gap_s for t in c.turns]) for c in trace.conversations] == [
        ("b", 0.0, [None, None, None]),
        ("a", 30.0, [None, None]),
    ]
    assert trace.provenance["rows_dropped"] == {"no time": 1}
    assert trace.provenance["rows_changed"]["first answer has no time: starts when the chat was last logged"] == 1


def test_joined_and_removed_messages_take_their_times_along(tmp_path: Path) -> None:
    row = wildchat("a", 1, ("q0", "a0", 5.0), ("q1", "a1", 10.0), ("q2", "a2", 30.0), ("q3", "a3", 70.0))
    del row["conversation"][6:]  # the last turn
    del row["conversation"][4]  # q2: a1 and a2 are joined
    del row["conversation"][0]  # q0: starts with the model
    trace = loaded(tmp_path, [row, wildchat("b", 11, ("q", "a", 0.0))])
    assert [(t.user_text, t.reply_text) for t in trace.conversations[1].turns] == [("q1", "a1\n\na2")]
    assert trace.conversations[1].start_s == 30.0


def test_imported_and_read_again(tmp_path: Path) -> None:
    import_trace("wildchat", write_parquet(tmp_path / "c.parquet", ROWS, WILDCHAT_SCHEMA), tmp_path / "out.parquet")
    again = load_trace(str(tmp_path / "out.parquet"), texts=True)
    assert content_hash(again) == content_hash(loaded(tmp_path, ROWS))
    assert again.conversations == loaded(tmp_path, ROWS).conversations


@pytest.mark.parametrize(
    "value",
    [
        "2023-04-09T00:02:53",
        "2023-04-09 00:02:53",
        "2023-04-09T00:02:53Z",
        "2023-04-09T02:02:53+02:00",
        START_US // 1_000_000,
        START_US / 1e6,
        START_US // 1000,
        START_US,
        START_US * 1000 + 999,
    ],
)
def test_times_in_every_spelling(value: Any) -> None:
    assert time_us(value, "f:1", "timestamp") == START_US == round(START.timestamp() * 1e6)


@pytest.mark.parametrize(
    "value",
    ["yesterday", "", 12, -1.0, 10**30, True, float("nan"), float("inf"), ["2023"], {}, "2023-13-01T00:00:00", "9" * 5000],
)
def test_what_is_no_time_is_one_clear_line(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^f:1: timestamp is .*; expected a time as 2024-05-01T12:30:00 \(UTC") as raised:
        time_us(value, "f:1", "timestamp")
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("timestamp", "noon", "timestamp of message 2 is 'noon'; expected a time as"),
        ("turn_identifier", "one", "turn_identifier is [1, 'one']; expected whole numbers"),
        ("hashed_ip", 3, "hashed_ip is 3; expected a text"),
    ],
)
def test_a_malformed_message_is_named(tmp_path: Path, field: str, value: Any, message: str) -> None:
    rows = [ROWS[0], {**wildchat("x", 1, ("q", "a", 1.0)), "hashed_ip": None}]
    rows[1]["conversation"][0]["hashed_ip"] = None
    rows[1]["conversation"][1][field] = value
    with pytest.raises(ValueError, match=r"chats\.jsonl:2: ") as raised:
        load_trace(str(write_json_lines(tmp_path / "chats.jsonl", rows)))
    assert message in str(raised.value)
