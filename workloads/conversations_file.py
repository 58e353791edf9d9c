"""`conversations.parquet`: a trace as one row a turn, and its content hash. It does not know the public formats."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from workloads.columns import flat_lists, list_column, microseconds, seconds, write_aside
from workloads.conversation import Conversation, Provenance, Trace, Turn
from workloads.request import Segment

_KEY = b"stampede.trace"


def content_hash(trace: Trace) -> str:
    """SHA-256 (hex) over all that the conversations hold, never over a file's bytes."""
    digest = hashlib.sha256()
    for c in trace.conversations:
        head = [c.conversation_id, c.tenant, microseconds(c.start_s), _pairs(c.prefix), c.prefix_text]
        turns = [
            [t.user_tokens, t.reply_tokens, microseconds(t.think_s), _pairs(t.segments), t.user_text, t.reply_text]
            for t in c.turns
        ]
        digest.update(json.dumps([head, turns], separators=(",", ":")).encode())
    return digest.hexdigest()


def _pairs(segments: tuple[Segment, ...] | None) -> list[tuple[int, int]] | None:
    return None if segments is None else [(s.content_id, s.tokens) for s in segments]


def write_conversations(trace: Trace, path: Path) -> Path:
    """Write the trace, aside and then renamed; times are kept to the microsecond."""
    write_aside(_table(trace), path, compression="zstd", compression_level=19)
    return path


def _table(trace: Trace) -> Any:
    import pyarrow as pa

    rows = [(i, c, t) for i, c in enumerate(trace.conversations) for t in c.turns]
    columns = {
        "conversation": pa.array([i for i, _, _ in rows], pa.int32()),
        "conversation_id": pa.array([c.conversation_id for _, c, _ in rows], pa.string()),
        "tenant": pa.array([c.tenant for _, c, _ in rows], pa.int32()),
        "start_us": pa.array([microseconds(c.start_s) for _, c, _ in rows], pa.int64()),
        "prefix_ids": list_column([[s.content_id for s in c.prefix] for _, c, _ in rows], pa.int64()),
        "prefix_tokens": list_column([[s.tokens for s in c.prefix] for _, c, _ in rows], pa.int32()),
        "prefix_text": pa.array([c.prefix_text for _, c, _ in rows], pa.string()),
        "user_tokens": pa.array([t.user_tokens for _, _, t in rows], pa.int32()),
        "reply_tokens": pa.array([t.reply_tokens for _, _, t in rows], pa.int32()),
        "think_us": pa.array([microseconds(t.think_s) for _, _, t in rows], pa.int64()),
        "has_segments": pa.array([t.segments is not None for _, _, t in rows], pa.bool_()),
        "segment_ids": list_column([[s.content_id for s in t.segments or ()] for _, _, t in rows], pa.int64()),
        "segment_tokens": list_column([[s.tokens for s in t.segments or ()] for _, _, t in rows], pa.int32()),
        "user_text": pa.array([t.user_text for _, _, t in rows], pa.string()),
        "reply_text": pa.array([t.reply_text for _, _, t in rows], pa.string()),
    }
    meta = {"source": trace.source, "provenance": trace.provenance}
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(meta).encode()})


def is_conversations_file(path: Path) -> bool:
    """True for a Parquet file that `write_conversations` made."""
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _KEY in (pq.read_schema(path).metadata or {})
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}") from error


def read_conversations(path: Path) -> Trace:
    """Read what `write_conversations` wrote; equal to the trace that was written. ValueError "FILE: …" for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {}).get(_KEY, b"null"))
        if meta is None:
            raise ValueError(f"no {_KEY.decode()!r} in its schema")
        if lacking := sorted(Provenance.__required_keys__ - meta["provenance"].keys()):
            raise ValueError(f"its provenance lacks {', '.join(lacking)}")
        return Trace(meta["source"], tuple(_conversations(table)), cast(Provenance, meta["provenance"]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: not a whole conversations.parquet of stampede: {said[:200]}") from error


def _conversations(table: Any) -> list[Conversation]:
    if table.num_rows == 0:
        return []
    plain = {n: table.column(n).to_pylist() for n in table.column_names if n not in _LISTS}
    prefixes = _segments(table, "prefix_ids", "prefix_tokens")
    contents = _segments(table, "segment_ids", "segment_tokens")
    turns = [
        Turn(user, reply, content if known else None, seconds(think), user_text, reply_text)
        for user, reply, content, known, think, user_text, reply_text in zip(
            *(plain["user_tokens"], plain["reply_tokens"], contents, plain["has_segments"], plain["think_us"]),
            *(plain["user_text"], plain["reply_text"]),
            strict=True,
        )
    ]
    index = plain["conversation"]
    starts = [0, *(i for i in range(1, len(index)) if index[i] != index[i - 1]), len(index)]
    return [
        Conversation(
            conversation_id=plain["conversation_id"][a],
            turns=tuple(turns[a:b]),
            tenant=plain["tenant"][a],
            prefix=prefixes[a],
            start_s=seconds(plain["start_us"][a]),
            prefix_text=plain["prefix_text"][a],
        )
        for a, b in pairwise(starts)
    ]


_LISTS = ("prefix_ids", "prefix_tokens", "segment_ids", "segment_tokens")


def _segments(table: Any, ids_column: str, tokens_column: str) -> list[tuple[Segment, ...]]:
    ids, bounds = flat_lists(table.column(ids_column))
    tokens, _ = flat_lists(table.column(tokens_column))
    made = [Segment(i, t) for i, t in zip(ids, tokens, strict=True)]
    return [tuple(made[a:b]) for a, b in pairwise(bounds)]
