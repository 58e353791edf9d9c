"""`conversations.parquet` gives back what was written, and its hash is of content alone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.workloads.traces import MOONCAKE, SHAREGPT, blocks, chat, same, slice_file, trace_of
from workloads.conversation import Conversation, Turn
from workloads.conversations_file import content_hash, read_conversations, write_conversations
from workloads.trace import import_trace, load_trace
from workloads.trace_table import Trace


def every_kind() -> Trace:
    """Lengths only, blocks, empty blocks, texts, prefixes, times: whatever a source can say."""
    return trace_of(
        chat("plain", (3, 4), (5, 6)),
        Conversation("blocks", (Turn(1024, 9, blocks(1, 2)),), tenant=3, language="English", model="m"),
        Conversation("whole", (Turn(512, 1, blocks(1)), Turn(1024, 2, blocks(1, 5), None, 2.5, True))),
        Conversation("nothing", (Turn(0, 0, ()),), prefix=blocks(8, tokens=100), prefix_text="Be kind."),
        Conversation(
            "text", (Turn(2, 1, user_text="héllo", reply_text=""), Turn(1, 1, None, 0.000001, user_text="", reply_text="x"))
        ),
    )


def test_read_back_equal(tmp_path: Path) -> None:
    trace = every_kind()
    path = write_conversations(trace, tmp_path / "deep" / "conversations.parquet")
    assert same(read_conversations(path, texts=True), trace)
    assert same(load_trace(str(path), texts=True), trace)
    assert all(t.user_text is None for c in load_trace(str(path)).conversations for t in c.turns)
    assert [p.name for p in path.parent.iterdir()] == ["conversations.parquet"]


def test_an_empty_trace_reads_back(tmp_path: Path) -> None:
    assert same(read_conversations(write_conversations(trace_of(), tmp_path / "c.parquet")), trace_of())


def test_a_clock_is_counted_from_the_first_event_and_rows_are_put_in_order(tmp_path: Path) -> None:
    late, early = (replace(chat(n, (1, 1)), start_s=1_700_000_000.25 + t) for n, t in (("late", 7.5), ("early", 0.0)))
    found = read_conversations(write_conversations(trace_of(late, early), tmp_path / "c.parquet"))
    assert [(c.conversation_id, c.start_s) for c in found.conversations] == [("early", 0.0), ("late", 7.5)]
    assert found.provenance["first_start_us"] == 1_700_000_000_250_000
    assert found.provenance["rows_changed"] == {"out of time order: sorted": 1}


@pytest.mark.parametrize("name", [MOONCAKE, SHAREGPT])
def test_real_slices_read_back_equal(name: str, tmp_path: Path) -> None:
    source = "mooncake" if name == MOONCAKE else "sharegpt"
    written = import_trace(source, slice_file(name), tmp_path / "c.parquet")
    trace = load_trace(str(slice_file(name)))
    assert (written.sessions, written.turns) == (len(trace), trace.turn_count)
    assert same(load_trace(str(tmp_path / "c.parquet")), trace)
    assert content_hash(trace) == content_hash(load_trace(str(tmp_path / "c.parquet")))


def test_the_hash_sees_every_field_of_a_turn_and_nothing_of_the_provenance() -> None:
    trace = every_kind()
    turn = Turn(7, 7, blocks(1, tokens=7), 1.0)
    changed = [
        replace(turn, reply_tokens=8),
        replace(turn, segments=blocks(2, tokens=7)),
        replace(turn, segments=None),
        replace(turn, think_s=2.0),
        replace(turn, gap_s=3.0),
        replace(turn, restarts=True),
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
    return changed(table, pa.nulls(table.num_rows, pa.list_(pa.int32())))


def negative(table: pa.Table) -> pa.Table:
    counts = [[-1] * n for n in table.column("user_tokens").combine_chunks().value_lengths().to_pylist()]
    return changed(table, pa.array(counts, pa.list_(pa.int32())))


def other(table: pa.Table) -> pa.Table:
    return changed(table, pa.array([[1]] * table.num_rows, pa.list_(pa.int32())))


def unexplained(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({b"stampede.trace": b'{"source": "x", "provenance": {}}'})


def kept(path: Path, table: pa.Table) -> None:
    """Write a table where `path` is, with what the file says of itself unless the table says it."""
    said = {**(pq.read_metadata(path).metadata or {}), **(table.schema.metadata or {})}
    with pq.ParquetWriter(path, table.schema.remove_metadata()) as writer:
        writer.write_table(table.replace_schema_metadata(None))
        writer.add_key_value_metadata({k: v for k, v in said.items() if k == b"stampede.trace"})


def changed(table: pa.Table, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index("user_tokens"), "user_tokens", values)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "columns are not those"),
        (null, "without user_tokens"),
        (negative, "no negative tokens"),
        (other, "other numbers of questions"),
        (unexplained, "lacks citation"),
    ],
)
def test_a_spoilt_file_is_one_line_that_names_it(spoil: Callable[[pa.Table], pa.Table], said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    write_conversations(every_kind(), path)
    kept(path, spoil(pq.read_table(path)))
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
