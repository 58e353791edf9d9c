"""List columns of Arrow tables, to and from flat values and bounds: fast both ways. It does not know what they hold."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, chain
from pathlib import Path
from typing import Any


def list_column(rows: Sequence[Sequence[int] | None], value_type: Any) -> Any:
    """A list<value_type> array; None is a null."""
    import pyarrow as pa

    bounds: list[int | None] = [0, *accumulate(len(r) if r is not None else 0 for r in rows)]
    for i, row in enumerate(rows):
        if row is None:
            bounds[i] = None
    values = pa.array(chain.from_iterable(r for r in rows if r is not None), value_type)
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), values)


def flat_lists(column: Any) -> tuple[list[int], list[int]]:
    """(values, bounds) of a list column without nulls: row i is values[bounds[i]:bounds[i+1]]."""
    array = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    if hasattr(array, "chunks"):
        array = array.chunk(0)
    first = array.offsets[0].as_py()
    return array.values.slice(first).to_pylist(), [b - first for b in array.offsets.to_pylist()]


def write_aside(table: Any, path: Path, **options: Any) -> None:
    """Write a Parquet file beside its place and rename it when whole: existence means complete."""
    import os

    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, aside, **options)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def whole_microseconds(values: Iterable[float]) -> list[float]:
    """Times rounded to the microsecond, so that a file holds them exactly."""
    return [round(v * 1e6) / 1e6 for v in values]
