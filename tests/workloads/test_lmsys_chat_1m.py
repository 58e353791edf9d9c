"""LMSYS-Chat-1M, from Parquet shards and JSON lines: the rules of chats, languages and models, damaged files."""

from pathlib import Path

import pytest

from tests.workloads.chat_files import LMSYS_SCHEMA, Row, lmsys, write_json_lines, write_parquet
from workloads.sources.lmsys_chat_1m import LMSYS_CHAT_1M
from workloads.sources.source import ReadOptions, Tally
from workloads.trace import load_trace
from workloads.trace_table import joined

ASK, ANSWER = ("user", "What is it?"), ("assistant", "It is this.")
ROWS = [
    lmsys("a", ASK, ANSWER, ASK, ANSWER),
    lmsys("b", ("user", "¿Qué?"), ("assistant", "Nada."), model="koala-13b", language="Spanish"),
    lmsys("c"),
    lmsys("a", ("user", "again"), ANSWER),
    lmsys("d", ANSWER, ASK, ANSWER, ASK),
    lmsys("e", ("user", None), ANSWER),
    lmsys("f", ("system", "Be kind."), ASK, ANSWER),
]


def written(folder: Path, form: str, rows: list[Row]) -> Path:
    if form == "jsonl":
        return write_json_lines(folder / "chats.jsonl", rows)
    if form == "parquet":
        return write_parquet(folder / "chats.parquet", rows, LMSYS_SCHEMA)
    shards = folder / "shards"
    shards.mkdir()
    (shards / ".cache").mkdir()
    (shards / ".cache" / "old.parquet").write_bytes(b"not a shard")
    for number, first in enumerate(range(0, len(rows), 3)):
        write_parquet(shards / f"train-{number:05d}-of-00003.parquet", rows[first : first + 3], LMSYS_SCHEMA)
    return shards


@pytest.mark.parametrize("form", ["jsonl", "parquet", "shards"])
def test_every_form_gives_the_same_trace(tmp_path: Path, form: str) -> None:
    trace = load_trace(str(written(tmp_path, form, ROWS)), texts=True)
    assert trace.source == "lmsys_chat_1m"
    assert [(c.conversation_id, len(c.turns), c.language, c.model) for c in trace.conversations] == [
        ("a", 2, "English", "vicuna-13b"),
        ("b", 1, "Spanish", "koala-13b"),
        ("d", 1, "English", "vicuna-13b"),
        ("e", 1, "English", "vicuna-13b"),
        ("f", 1, "English", "vicuna-13b"),
    ]
    told = trace.provenance
    assert told["rows_read"] == 7
    assert told["rows_dropped"] == {"empty conversation": 1, "repeated id": 1}
    assert told["rows_changed"] == {
        "ended with an unanswered question: removed": 1,
        "messages without text read as empty": 1,
        "started with the model: its first messages removed": 1,
    }
    assert (told["has_timestamps"], told["has_sessions"]) == (False, True)
    assert trace.conversations[1].turns[0].user_text == "¿Qué?"
    assert trace.conversations[3].turns[0].user_tokens == 0
    assert trace.conversations[4].prefix_text == "Be kind."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversation_id": 7}, "conversation_id is 7; expected a text"),
        ({"conversation_id": None}, "conversation_id is None; expected a text"),
        ({"conversation": "hello"}, "conversation is 'hello'; expected a list of messages"),
        ({"conversation": ["hello"]}, "message 1 is 'hello'; expected {'role': text, 'content': text}"),
        ({"conversation": [{"role": 1, "content": ""}]}, "message 1 is "),
        ({"conversation": [{"role": "user", "content": 1.5}]}, "content of message 1 is 1.5; expected a text"),
        ({"language": 3}, "language is 3; expected a text"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, change: Row, message: str) -> None:
    path = write_json_lines(tmp_path / "chats.jsonl", [ROWS[0], {**lmsys("z", ASK, ANSWER), **change}])
    with pytest.raises(ValueError, match=r"chats\.jsonl:2: ") as raised:
        load_trace(str(path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_malformed_parquet_row_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "chats.parquet", [*ROWS[:3], {**ROWS[0], "conversation_id": None}], LMSYS_SCHEMA)
    with pytest.raises(ValueError, match=r"chats\.parquet: row 4: conversation_id is None; expected a text$"):
        load_trace(str(path))


def test_damaged_parquet_is_one_line_or_a_trace(tmp_path: Path) -> None:
    """Any byte may be wrong; there is no other error than ValueError and never more than one line."""
    whole = written(tmp_path, "parquet", ROWS * 3).read_bytes()
    path = tmp_path / "damaged.parquet"
    said = []
    for place in range(4, len(whole) - 8, max(1, len(whole) // 300)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        LMSYS_CHAT_1M.recognises(path)
        try:
            joined(LMSYS_CHAT_1M.read(path, ReadOptions(), Tally()))
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 20
    assert all("damaged.parquet: " in line and "\n" not in line for line in said)


def test_a_cut_parquet_file(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"chats\.parquet: not a whole Parquet file"):
        load_trace(str(path))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r": a folder without \.parquet, "):
        load_trace(str(tmp_path), "lmsys_chat_1m")
