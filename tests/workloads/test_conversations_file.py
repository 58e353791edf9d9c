"""`conversations.parquet` gives back what was written, and its hash is of content alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workloads.traces import MOONCAKE, SHAREGPT, blocks, chat, slice_file, trace_of
from workloads.conversation import Conversation, Trace, Turn
from workloads.conversations_file import content_hash, read_conversations, write_conversations
from workloads.trace import import_trace, load_trace


def every_kind() -> Trace:
    """Lengths only, blocks, empty blocks, texts, prefixes, times: whatever a source can say."""
    return trace_of(
        chat("plain", (3, 4), (5, 6)),
        Conversation("blocks", (Turn(1024, 9, blocks(1, 2)),), start_s=1.25, tenant=3),
        Conversation("nothing", (Turn(0, 0, ()),), prefix=blocks(8, tokens=100), prefix_text="Be kind."),
        Conversation("text", (Turn(2, 1, None, None, "héllo", ""), Turn(1, 1, None, 0.000001, "", "x"))),
    )


def test_read_back_equal(tmp_path: Path) -> None:
    trace = every_kind()
    path = write_conversations(trace, tmp_path / "deep" / "conversations.parquet")
    assert read_conversations(path) == trace
    assert load_trace(str(path)) == trace
    assert [p.name for p in path.parent.iterdir()] == ["conversations.parquet"]


def test_an_empty_trace_reads_back(tmp_path: Path) -> None:
    assert read_conversations(write_conversations(trace_of(), tmp_path / "c.parquet")) == trace_of()


@pytest.mark.parametrize("name", [MOONCAKE, SHAREGPT])
def test_real_slices_read_back_equal(name: str, tmp_path: Path) -> None:
    source = "mooncake" if name == MOONCAKE else "sharegpt"
    trace = import_trace(source, slice_file(name), tmp_path / "c.parquet")
    assert load_trace(str(tmp_path / "c.parquet")) == trace


def test_the_hash_sees_every_field_of_a_turn_and_nothing_of_the_provenance() -> None:
    trace = every_kind()
    turn = Turn(7, 7, blocks(1, tokens=7), 1.0, "a", "b")
    changed = [
        replace(turn, reply_tokens=8),
        replace(turn, segments=blocks(2, tokens=7)),
        replace(turn, segments=None),
        replace(turn, think_s=2.0),
        replace(turn, user_text="c"),
        replace(turn, reply_text="c"),
    ]
    hashes = [content_hash(trace_of(Conversation("a", (t,)))) for t in (turn, *changed)]
    assert len(set(hashes)) == len(hashes)
    assert content_hash(replace(trace, provenance={**trace.provenance, "file": "elsewhere"})) == content_hash(trace)


def test_a_conversation_needs_a_turn_and_segments_that_add_up() -> None:
    with pytest.raises(ValueError, match="'x' has no turn"):
        Conversation("x", ())
    with pytest.raises(ValueError, match="segments hold 512 tokens, the user turn 500"):
        Turn(500, 1, blocks(1))


def cut(table: pa.Table) -> pa.Table:
    return table.drop_columns(["tenant"])


def null(table: pa.Table) -> pa.Table:
    return changed(table, pa.nulls(table.num_rows, pa.int32()))


def negative(table: pa.Table) -> pa.Table:
    return changed(table, pa.array([-1] * table.num_rows, pa.int32()))


def unexplained(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({b"stampede.trace": b'{"source": "x", "provenance": {}}'})


def changed(table: pa.Table, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index("user_tokens"), "user_tokens", values)


@pytest.mark.parametrize(
    ("spoil", "said"), [(cut, "tenant"), (null, "NoneType"), (negative, "no negative tokens"), (unexplained, "lacks citation")]
)
def test_a_spoilt_file_is_one_line_that_names_it(spoil: Callable[[pa.Table], pa.Table], said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_conversations(every_kind(), path)
    pq.write_table(spoil(pq.read_table(path)), path)
    with pytest.raises(ValueError, match=rf"c\.parquet: not a whole conversations\.parquet of stampede: .*{said}") as raised:
        load_trace(str(path))
    assert "\n" not in str(raised.value)


def test_pages_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_conversations(every_kind(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + b"\xff" * 60 + whole[64:])
    with pytest.raises(ValueError, match=r"c\.parquet: not a whole"):
        load_trace(str(path))


def test_a_file_of_one_source_is_not_taken_for_another(tmp_path: Path) -> None:
    write_conversations(every_kind(), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="holds a trace of by hand, not of mooncake"):
        import_trace("mooncake", tmp_path / "c.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()
