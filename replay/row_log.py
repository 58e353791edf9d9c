"""A growing table: rows in the order they were begun, kept as columns once nobody writes them. It knows no row's meaning."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate, chain
from operator import attrgetter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, get_args, get_type_hints

Row = TypeVar("Row")

BLOCK_ROWS = 4096


class RowLog(Generic[Row]):
    """Rows of one dataclass. What is appended is the tuple of a row's values, or an object that still changes.

    An object row weighs ten times what its columns do, so a full block is turned into an Arrow batch as soon as all its rows are
    `settled`. Iterating gives row objects; `table` and `write` give the columns.
    """

    def __init__(self, row_type: type[Row], settled: Callable[[Any], bool] | None = None) -> None:
        self._type = row_type
        self._names = [f.name for f in fields(row_type)]  # type: ignore[arg-type]
        self._settled = settled
        self._blocks: list[Any] = []  # full ones: an Arrow batch, or a list of rows that are not all settled
        self._loose: list[list[int]] = []  # of the latter: [block, rows that are known to be settled]
        self._last: list[Any] = []
        self._n = 0
        self._schema: Any = None

    def __len__(self) -> int:
        return self._n + len(self._last)

    def append(self, row: Any) -> None:
        if len(self._last) >= BLOCK_ROWS:  # not before: the latest row's owner may just be taking hold of it
            self._close_block()
        self._last.append(row)

    def __iter__(self) -> Iterator[Row]:
        for block in self._all_blocks():
            rows = zip(*(c.to_pylist() for c in block.columns), strict=True)
            yield from (self._type(*values) for values in rows)

    def table(self) -> Any:
        """All rows as an Arrow table."""
        import pyarrow as pa

        self._pack_settled()
        return pa.Table.from_batches(self._all_blocks(), schema=self._arrow_schema())

    def write(self, path: Path) -> None:
        """All rows as a Parquet file."""
        import pyarrow.parquet as pq

        pq.write_table(self.table(), path, compression="zstd")

    # Inside ------------------------------------------------------------------------------------------------------------

    def _close_block(self) -> None:
        self._n += len(self._last)
        self._loose.append([len(self._blocks), 0])
        self._blocks.append(self._last)
        self._last = []
        self._pack_settled()

    def _pack_settled(self) -> None:
        self._loose = [loose for loose in self._loose if not self._pack(loose)]

    def _pack(self, loose: list[int]) -> bool:
        """Turn a block into columns if all its rows are settled; goes on looking where it stopped the last time."""
        number, known = loose
        rows, settled = self._blocks[number], self._settled
        if settled is not None:
            for place in range(known, len(rows)):
                if not settled(rows[place]):
                    loose[1] = place
                    return False
        self._blocks[number] = self._batch(rows)
        return True

    def _all_blocks(self) -> list[Any]:
        blocks = [self._batch(b) if isinstance(b, list) else b for b in self._blocks]
        return [*blocks, self._batch(self._last)] if self._last else blocks

    def _batch(self, rows: Sequence[Any]) -> Any:
        import pyarrow as pa

        schema = self._arrow_schema()
        columns = (list(map(attrgetter(n), rows)) for n in self._names) if self._settled else zip(*rows, strict=True)
        arrays = [_column(values, field.type) for values, field in zip(columns, schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _arrow_schema(self) -> Any:
        if self._schema is None:
            import pyarrow as pa

            hints = get_type_hints(self._type)
            self._schema = pa.schema([(name, _arrow_type(hints[name])) for name in self._names])
        return self._schema


def _column(values: Sequence[Any], kind: Any) -> Any:
    """An arrow array; lists go in as one flat array with offsets, and equal values at once: both several times faster."""
    import pyarrow as pa

    if values[0] == values[-1] and values.count(values[0]) == len(values):
        return pa.repeat(pa.scalar(values[0], kind), len(values))
    if not pa.types.is_list(kind):
        return pa.array(values, kind)
    offsets = [0, *accumulate(map(len, values))]
    flat = pa.array(list(chain.from_iterable(values)), kind.value_type)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def _arrow_type(hint: Any) -> Any:
    import pyarrow as pa

    if isinstance(hint, UnionType):
        (hint,) = (a for a in get_args(hint) if a is not NoneType)
    if get_args(hint):
        return pa.list_(_arrow_type(get_args(hint)[0]))
    return {int: pa.int64(), float: pa.float64(), str: pa.string()}[hint]
