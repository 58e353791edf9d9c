"""Columns of Arrow tables, to and from flat numpy arrays: fast both ways. It does not know what they hold."""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def list_column(rows: Sequence[Sequence[int]], value_type: Any) -> Any:
    """A list<value_type> array without nulls."""
    import pyarrow as pa

    bounds = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(r) for r in rows], out=bounds[1:])
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(list(chain.from_iterable(rows)), value_type))


def plain(column: Any, missing: float) -> npt.NDArray[Any]:
    """A column of numbers or booleans as one array, nulls replaced."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([_numbers(chunk, missing) for chunk in chunks] or [np.empty(0, dtype=np.int64)])


def _numbers(array: Any, missing: float) -> npt.NDArray[Any]:
    import pyarrow as pa

    if array.null_count:
        array = array.cast(pa.float64() if missing != missing else array.type, safe=False).fill_null(missing)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def flat_lists(column: Any, missing: float = 0) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """(values, bounds) of a list column: row i is values[bounds[i]:bounds[i+1]]; null rows are empty, null values replaced."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    values, lengths = [], []
    for chunk in chunks:
        lengths.append(np.asarray(chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64))
        values.append(_numbers(chunk.flatten(), missing))
    bounds = np.concatenate([np.zeros(1, dtype=np.int64), *lengths])
    np.cumsum(bounds, out=bounds)
    if len(values) == 1:
        return values[0], bounds
    return np.concatenate(values or [np.empty(0, dtype=np.int64)]), bounds


def flat_strings(table: Any, name: str) -> list[str | None]:
    """A text column as a list; None for every row where there is no such column."""
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def write_aside(table: Any, path: Path, **options: Any) -> None:
    """Write a Parquet file beside its place and rename it when whole: existence means complete."""
    import pyarrow.parquet as pq

    with aside_of(path) as aside:
        pq.write_table(table, aside, **options)


class aside_of:
    """A context that gives a temporary name beside `path` and renames it to `path` when the block ends well.

    Otherwise nothing is left, not even a folder that had to be made for it. ValueError where `path` is no plain file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_name(f".{path.name}.{os.getpid()}.part")
        self._new = [folder for folder in path.absolute().parents if not folder.exists()]

    def __enter__(self) -> Path:
        if (self.path.exists() and not self.path.is_file()) or self.path.is_symlink():
            raise ValueError(f"{self.path}: is no plain file (a folder, a link or a device); name a file to write")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.aside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                os.replace(self.aside, self.path)
        finally:
            self.aside.unlink(missing_ok=True)
            for folder in self._new if kind is not None else ():
                with suppress(OSError):  # somebody else put something there
                    folder.rmdir()


def microseconds(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def seconds(us: int | None) -> float | None:
    return None if us is None else us / 1e6


def whole_microseconds(values: Iterable[float]) -> list[float]:
    """Times rounded to the microsecond, so that a file holds them exactly."""
    return [round(v * 1e6) / 1e6 for v in values]
