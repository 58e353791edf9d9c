"""`workload.parquet`: a workload on disk, and the hash that is its identity. It does not know how it was made."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from workloads.columns import flat_lists, list_column, microseconds, seconds, write_aside
from workloads.request import Phase, Request, Segment, Workload

_KEY = b"stampede"
_SCALARS = (
    ("request_id", "int64"),
    ("session_id", "int64"),
    ("turn", "int32"),
    ("arrival_us", "int64"),
    ("think_us", "int64"),
    ("prompt_tokens", "int32"),
    ("reply_id", "int64"),
    ("output_tokens", "int32"),
    ("tenant", "int32"),
    ("deadline_us", "int64"),
)
_LISTS = (("content_ids", "int64"), ("segment_tokens", "int32"))
_NULLABLE = ("arrival_us", "think_us", "deadline_us")


def workload_hash(workload: Workload) -> str:
    """SHA-256 (hex) over the columns in request order and the phases; name, seed and provenance are not part of it."""
    digest = hashlib.sha256()
    for name, dtype, values in _hashed_columns(workload):
        digest.update(f"{name}:{dtype}:{len(values)}:".encode())
        if name in _NULLABLE:
            digest.update(np.array([v is not None for v in values], dtype=np.bool_).tobytes())
            values = [0 if v is None else v for v in values]
        digest.update(np.array(values, dtype=np.dtype(dtype).newbyteorder("<")).tobytes())
    digest.update(json.dumps(_phases_json(workload.phases)).encode())
    return digest.hexdigest()


def _hashed_columns(workload: Workload) -> Iterator[tuple[str, str, Sequence[int | None]]]:
    requests = sorted(workload.requests, key=lambda r: r.request_id)
    scalars = _scalar_columns(requests)
    for name, dtype in _SCALARS:
        yield name, dtype, scalars[name]
    yield "segments", "int32", [len(r.segments) for r in requests]
    yield "content_ids", "int64", [s.content_id for r in requests for s in r.segments]
    yield "segment_tokens", "int32", [s.tokens for r in requests for s in r.segments]


def _scalar_columns(requests: Sequence[Request]) -> dict[str, list[int | None]]:
    return {
        "request_id": [r.request_id for r in requests],
        "session_id": [r.session_id for r in requests],
        "turn": [r.turn for r in requests],
        "arrival_us": [microseconds(r.arrival_s) for r in requests],
        "think_us": [microseconds(r.think_s) for r in requests],
        "prompt_tokens": [r.prompt_tokens for r in requests],
        "reply_id": [r.reply_id for r in requests],
        "output_tokens": [r.output_tokens for r in requests],
        "tenant": [r.tenant for r in requests],
        "deadline_us": [microseconds(r.deadline_s) for r in requests],
    }


def _phases_json(phases: tuple[Phase, ...]) -> list[dict[str, Any]]:
    return [{"name": p.name, "duration_s": p.duration_s, "load_rps": p.load_rps} for p in phases]


def write_workload(workload: Workload, folder: Path) -> Path:
    """Write FOLDER/<first 16 digits of the hash>.parquet, aside and then renamed; an existing file is whole and is kept."""
    import pyarrow as pa

    identity = workload_hash(workload)
    path = folder / f"{identity[:16]}.parquet"
    if path.is_file():
        return path
    scalars = _scalar_columns(workload.requests)
    columns = {name: pa.array(scalars[name], dtype) for name, dtype in _SCALARS}
    columns["content_ids"] = list_column([[s.content_id for s in r.segments] for r in workload.requests], pa.int64())
    columns["segment_tokens"] = list_column([[s.tokens for s in r.segments] for r in workload.requests], pa.int32())
    meta = {
        "name": workload.name,
        "seed": workload.seed,
        "phases": _phases_json(workload.phases),
        "provenance": workload.provenance,
        "hash": identity,
    }
    table = pa.table(columns).replace_schema_metadata({_KEY: json.dumps(meta).encode()})
    write_aside(table, path, compression="zstd")
    return path


def read_provenance(path: Path) -> dict[str, Any]:
    """What the file says of itself, without its rows: name, seed, phases, provenance, hash."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise ValueError(f"{path}: no such workload file")
    try:
        found = (pq.read_schema(path).metadata or {}).get(_KEY)
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}") from error
    if found is None:
        raise ValueError(f"{path}: not a workload of stampede (no {_KEY.decode()!r} in its schema)")
    meta: dict[str, Any] = json.loads(found)
    return meta


def read_workload(path: Path) -> Workload:
    """Read what `write_workload` wrote; equal to the workload that was written. Raises ValueError for any other file."""
    import pyarrow.parquet as pq

    meta = read_provenance(path)
    table = pq.read_table(path)
    column = {name: table.column(name).to_pylist() for name, _ in _SCALARS}
    requests = tuple(
        Request(rid, sid, turn, seconds(arrival), seconds(think), segments, reply, output, tenant, seconds(deadline))
        for rid, sid, turn, arrival, think, segments, reply, output, tenant, deadline in zip(
            *(column[n] for n in ("request_id", "session_id", "turn", "arrival_us", "think_us")),
            _segments(table),
            *(column[n] for n in ("reply_id", "output_tokens", "tenant", "deadline_us")),
            strict=True,
        )
    )
    phases = tuple(Phase(**p) for p in meta["phases"])
    return Workload(meta["name"], meta["seed"], phases, requests, meta["provenance"])


def _segments(table: Any) -> list[tuple[Segment, ...]]:
    """The prompt of each request; equal segments are one object, since later turns repeat earlier ones."""
    if table.num_rows == 0:
        return []
    ids, bounds = flat_lists(table.column("content_ids"))
    tokens, _ = flat_lists(table.column("segment_tokens"))
    known: dict[tuple[int, int], Segment] = {}
    made = [known.get(pair) or known.setdefault(pair, Segment(*pair)) for pair in zip(ids, tokens, strict=True)]
    return [tuple(made[a:b]) for a, b in pairwise(bounds)]
