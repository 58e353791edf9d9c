"""`workload.parquet`: a workload on disk, and the hash that is its identity. It does not know how it was made."""

import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from workloads.columns import flat_lists, plain, write_aside
from workloads.events import Event
from workloads.request_table import UNKNOWN_US, RequestTable
from workloads.workload import Phase, Workload

_KEY = b"stampede"
_COLUMNS = {
    "session_id": "int64",
    "turn": "int32",
    "arrival_us": "int64",
    "think_us": "int64",
    "prompt_tokens": "int32",
    "reply_id": "int64",
    "output_tokens": "int32",
    "tenant": "int32",
    "deadline_us": "int64",
    "extends": "bool",
}
_NULLABLE = ("arrival_us", "think_us", "deadline_us")


def workload_hash(workload: Workload) -> str:
    """SHA-256 (hex) over the columns in request order, the phases and the events; name, seed and provenance are no part of it."""
    digest = hashlib.sha256()
    for field in fields(RequestTable):
        values = getattr(workload.table, field.name)
        digest.update(f"{field.name}:{len(values)}:".encode())
        digest.update(np.ascontiguousarray(values, dtype="<i8").tobytes())
    digest.update(json.dumps([_rows(workload.phases), _rows(workload.events)]).encode())
    return digest.hexdigest()


def _rows(items: tuple[Phase, ...] | tuple[Event, ...]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]


def write_workload(workload: Workload, folder: Path) -> Path:
    """Write FOLDER/<first 16 digits of the hash>.parquet, aside and then renamed; an existing file is whole and is kept.

    Columns: those of `RequestTable`, `request_id`, and the lists `new_ids`, `new_tokens`; null where a time is none.
    """
    import pyarrow as pa

    identity = workload_hash(workload)
    path = folder / f"{identity[:16]}.parquet"
    if path.is_file():
        return path
    table = workload.table
    bounds = pa.array(table.new_bounds.astype(np.int64))
    columns = {"request_id": pa.array(np.arange(len(table), dtype=np.int64))}
    for name, dtype in _COLUMNS.items():
        values = getattr(table, name).astype(dtype)
        columns[name] = pa.array(values, mask=values == UNKNOWN_US if name in _NULLABLE else None)
    columns["new_ids"] = pa.LargeListArray.from_arrays(bounds, pa.array(table.new_ids))
    columns["new_tokens"] = pa.LargeListArray.from_arrays(bounds, pa.array(table.new_tokens.astype(np.int32)))
    meta = {
        "name": workload.name,
        "seed": workload.seed,
        "phases": _rows(workload.phases),
        "events": _rows(workload.events),
        "provenance": workload.provenance,
        "hash": identity,
    }
    write_aside(pa.table(columns).replace_schema_metadata({_KEY: json.dumps(meta).encode()}), path, compression="zstd")
    return path


def read_provenance(path: Path) -> dict[str, Any]:
    """What the file says of itself, without its rows: name, seed, phases, events, provenance, hash."""
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
    columns: dict[str, Any] = {name: plain(table.column(name), UNKNOWN_US) for name in _COLUMNS}
    columns = {name: values if name == "extends" else values.astype(np.int64) for name, values in columns.items()}
    ids, bounds = flat_lists(table.column("new_ids"))
    tokens, _ = flat_lists(table.column("new_tokens"))
    rows = RequestTable(**columns, new_bounds=bounds, new_ids=ids.astype(np.int64), new_tokens=tokens.astype(np.int64))
    phases, events = tuple(Phase(**p) for p in meta["phases"]), tuple(Event(**e) for e in meta["events"])
    return Workload(meta["name"], meta["seed"], phases, rows, meta["provenance"], events)
