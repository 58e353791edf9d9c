"""`conversations.parquet`: a trace on disk, written as it streams in, and its content hash. It knows no public format."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from workloads.columns import aside_of, flat_lists
from workloads.conversation import Provenance
from workloads.trace_table import REQUIRED, SCHEMA, TEXTS, Trace, joined

_KEY = b"stampede.trace"
_SMALL = 200_000  # turns up to which the smallest file is worth its time
_WITHOUT_TEXT = [name for name in SCHEMA.names if name not in TEXTS]


def content_hash(trace: Trace) -> str:
    """SHA-256 (hex) over ids, tenants, times, lengths and contents, never over a file's bytes. Texts count by their ids."""
    digest = hashlib.sha256()
    for name in _WITHOUT_TEXT:
        if name in ("conversation_id", "language", "model"):
            values = trace.table.column(name).to_pylist() if name in trace.table.column_names else None
            digest.update(json.dumps([name, values]).encode())
    starts = np.rint(trace.start_s * 1e6) if trace.has_timestamps else np.empty(0)
    think_us, gap_us = (np.rint(np.nan_to_num(v * 1e6, nan=-1.0)) for v in (trace.think_s, trace.gap_s))
    numbers = (starts, trace.tenant, trace.turns, trace.prefix_bounds, trace.prefix_ids, trace.prefix_tokens, trace.user_tokens)
    more = (trace.reply_tokens, think_us, gap_us, trace.restarts, trace.segment_bounds, trace.segment_ids, trace.segment_tokens)
    for array in (*numbers, *more):
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Written:
    """What a file was given: its sessions and turns, and what it says of their origin."""

    path: Path
    sessions: int
    turns: int
    provenance: Provenance


def write_conversations(trace: Trace, path: Path) -> Path:
    """Write a trace, aside and then renamed."""
    level = 19 if trace.turn_count < _SMALL else 3
    return stream_conversations(trace.source, [trace.table], lambda: trace.provenance, path, level=level).path


def stream_conversations(
    source: str, tables: Iterable[Any], provenance: Callable[[], Provenance], path: Path, level: int = 3
) -> Written:
    """Write tables as they come, aside and then renamed; `provenance` is asked when the last one has been written.

    The file has every column of the schema. Memory holds one table at a time, whatever the length of the trace.
    """
    import pyarrow.parquet as pq

    sessions = turns = 0
    options: dict[str, Any] = {"compression": "zstd", "compression_level": level, "use_dictionary": _DICTIONARY}
    with aside_of(path) as aside, pq.ParquetWriter(aside, SCHEMA, **options) as writer:
        for table in tables:
            writer.write_table(completed(table))
            sessions += table.num_rows
            turns += sum(len(chunk.flatten()) for chunk in table.column("user_tokens").chunks)
        said = provenance()
        writer.add_key_value_metadata({_KEY.decode(): json.dumps({"source": source, "provenance": said})})
    return Written(path, sessions, turns, said)


_DICTIONARY = ["language", "model", "prefix_text", "prefix_ids.list.element", "prefix_tokens.list.element"]


def completed(table: Any) -> Any:
    """The table with every column of the schema, absent ones null."""
    import pyarrow as pa

    columns = [
        table.column(f.name).cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type) for f in SCHEMA
    ]
    return pa.table(columns, schema=SCHEMA)


def is_conversations_file(path: Path) -> bool:
    """True for a Parquet file that `write_conversations` made."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        if file.read(4) != b"PAR1":
            return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _KEY in (pq.read_metadata(path).metadata or {})
    except (pa.ArrowException, OSError, ValueError, LookupError, MemoryError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: not a whole Parquet file: {ascii(said)[1:-1][:200]}") from error


def read_conversations(path: Path, *, texts: bool = False) -> Trace:
    """Read what `write_conversations` wrote, the texts only where asked for. ValueError "FILE: …" for any other file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        meta = json.loads((file.metadata.metadata or {}).get(_KEY, b"null"))
        if meta is None:
            raise ValueError(f"no {_KEY.decode()!r} in its schema")
        if lacking := sorted(Provenance.__required_keys__ - meta["provenance"].keys()):
            raise ValueError(f"its provenance lacks {', '.join(lacking)}")
        if not file.schema_arrow.remove_metadata().equals(SCHEMA):
            raise ValueError("its columns are not those of this version: import the trace again")
        wanted = [name for name in SCHEMA.names if (texts or name not in TEXTS) and not _is_null(file.metadata, name)]
        table = file.read(columns=wanted) if file.metadata.num_rows else joined([])
        trace = Trace.of_table(meta["source"], table.replace_schema_metadata(None), cast(Provenance, meta["provenance"]))
        _check(trace)
        return trace
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = ascii(" ".join(f"{type(error).__name__}: {error}".split()))[1:-1]
        raise ValueError(f"{path}: not a whole conversations.parquet of stampede: {said[:200]}") from error


def _check(trace: Trace) -> None:
    """ValueError where the columns contradict each other: a turn without an answer's length, segments that do not add up."""
    table = trace.table
    replies = flat_lists(table.column("reply_tokens"))[1]
    if any(table.column(name).null_count for name in REQUIRED):
        raise ValueError("a conversation without user_tokens or reply_tokens")
    if not np.array_equal(trace.turn_bounds, replies) or (len(trace) and int(trace.turns.min()) < 1):
        raise ValueError("a conversation without a turn, or with other numbers of questions and answers")
    if trace.turn_count and min(int(trace.user_tokens.min()), int(trace.reply_tokens.min())) < 0:
        raise ValueError("a turn has no negative tokens")
    if len(trace.prefix_ids) != len(trace.prefix_tokens) or trace.prefix_bounds[-1] != len(trace.prefix_ids):
        raise ValueError("prefix_ids and prefix_tokens of different lengths")
    segments = len(trace.segment_ids)
    if segments != len(trace.segment_tokens) or int(trace.segment_bounds[-1]) != segments:
        raise ValueError("segments, segment_ids and segment_tokens do not fit together")
    total = np.concatenate([[0], np.cumsum(trace.segment_tokens, dtype=np.int64)])
    held = total[trace.segment_bounds[1:]] - total[trace.segment_bounds[:-1]]
    if bool(((held != trace.user_tokens) & (np.diff(trace.segment_bounds) > 0)).any()):
        raise ValueError("a turn's segments do not add up to its user_tokens")


def _is_null(metadata: Any, name: str) -> bool:
    """True for an optional column without any value, told from the file's statistics: it need not be read."""
    if name in REQUIRED:
        return False
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    columns = (g.column(c) for g in groups for c in range(g.num_columns))
    chosen = [c for c in columns if c.path_in_schema.split(".")[0] == name]
    return all(c.statistics is not None and c.statistics.null_count == c.num_values for c in chosen)
