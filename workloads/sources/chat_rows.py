"""Rows of chat data sets, from a file or a folder of shards, Parquet or JSON lines, with their places. It knows no rules."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from workloads.sources.json_lines import Record, json_records
from workloads.sources.source import PARQUET_DAMAGE, check_rows, clause, first_text

_BATCH_ROWS = 256
_LONGEST_BATCH_BYTES = 1 << 30

Columns = Mapping[str, Sequence[str]]
"""The columns to read; those that hold messages with the fields to read of them."""


def shards(path: Path) -> list[Path]:
    """The file itself, or a folder's shards in the order of their names: Parquet files, else JSON-lines files."""
    if not path.is_dir():
        return [path]
    inside = [p for p in sorted(path.rglob("*")) if not any(part.startswith(".") for part in p.relative_to(path).parts)]
    for endings in ((".parquet",), (".jsonl", ".json", ".ndjson")):
        if found := [p for p in inside if p.is_file() and p.suffix in endings]:
            return found
    return []


def has_columns(path: Path, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> bool:
    """Whether the file, or a folder's first shard, has all of these columns and none of the others."""
    first = next(iter(shards(path)), None)
    if first is None:
        return False
    if _is_parquet(first):
        import pyarrow.parquet as pq

        try:
            names = set(pq.read_schema(first).names)
        except PARQUET_DAMAGE:
            return False
        return names.issuperset(wanted) and names.isdisjoint(unwanted)
    line = first_text(first).split("\n", 1)[0]
    has = [f'"{name}"' in line for name in wanted]
    return line.lstrip().startswith("{") and all(has) and not any(f'"{name}"' in line for name in unwanted)


def chat_records(path: Path, columns: Columns) -> Iterator[Record]:
    """Every row as plain values; the place is "FILE:LINE", or "FILE: row N" in Parquet, whose times come as whole numbers.

    Memory holds a row group's compressed columns and 256 rows. Raises ValueError in one line for a file that cannot be read.
    """
    found = shards(path)
    if not found:
        raise ValueError(f"{path}: a folder without .parquet, .jsonl, .json or .ndjson files")
    for shard in found:
        yield from _parquet_records(shard, columns) if _is_parquet(shard) else json_records(shard)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _parquet_records(path: Path, columns: Columns) -> Iterator[Record]:
    number = 0
    for rows in _batches(path, columns):
        for row in rows:
            number += 1
            yield Record(f"{path}: row {number}", row)


def _batches(path: Path, columns: Columns) -> Iterator[list[dict[str, Any]]]:
    """Lists of rows, checked before anything is made of them: a damaged page may hold lengths and bytes that are none."""
    import pyarrow.parquet as pq

    read = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:  # else the whole file is kept
            paths = [file.schema.column(i).path for i in range(len(file.schema))]
            wanted = [p for p in paths if _is_wanted(p.split("."), columns)]
            for batch in file.iter_batches(_BATCH_ROWS, columns=wanted):
                batch.validate(full=True)
                if batch.nbytes > _LONGEST_BATCH_BYTES:
                    raise ValueError(f"{batch.num_rows} rows hold more than {_LONGEST_BATCH_BYTES >> 20} MiB")
                plain = [column.cast(_without_times(column.type)) for column in batch.columns]
                rows = pa.RecordBatch.from_arrays(plain, names=batch.schema.names).to_pylist()
                yield rows
                read += len(rows)
            check_rows(read, file)
    except PARQUET_DAMAGE as error:
        raise ValueError(f"{path}: not readable as Parquet behind row {read}: {clause(error)}") from error


def _is_wanted(path: list[str], columns: Columns) -> bool:
    return path[0] in columns and (not columns[path[0]] or path[-1] in columns[path[0]])


def _without_times(kind: Any) -> Any:
    """The type with whole numbers for times: a `datetime` a message would cost more than all the rest."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_without_times(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(i).name, _without_times(kind.field(i).type)) for i in range(kind.num_fields)])
    return kind
