"""A user's table of requests, CSV, JSON lines or Parquet, as blocks of columns. It does not know what the columns mean."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from workloads.sources.csv_columns import CsvFormat, csv_blocks, csv_format
from workloads.sources.json_lines import Record, json_records
from workloads.sources.source import PARQUET_DAMAGE, check_rows, clause, first_text
from workloads.sources.typed_columns import is_date

_ROWS = 1 << 16
_DELIMITERS = ",\t;|"


class Block(Protocol):
    """Some rows: columns by name, and the place of each row for an error line."""

    @property
    def columns(self) -> Mapping[str, Any]: ...

    def where(self, row: int) -> str: ...


@dataclass(frozen=True, slots=True)
class UserTable:
    """A file's column names and the place that gives them, the columns whose first value is a date, and how to read it."""

    path: Path
    place: str
    kind: str
    names: tuple[str, ...]
    dated: tuple[str, ...]
    format: CsvFormat | None = None

    def blocks(self, wanted: Sequence[str], integers: Sequence[str] = ()) -> Iterator[Block]:
        """The wanted columns: text, or as the file types them; ValueError "FILE:LINE: …" (Parquet: "FILE: row N: …")."""
        if self.format is not None:
            yield from csv_blocks(self.path, self.format, wanted, integers)
        elif self.kind == "parquet":
            yield from _parquet_blocks(self.path, wanted)
        else:
            yield from _json_blocks(self.path, wanted)


def user_table(path: Path) -> UserTable:
    """What the file is, told from its content: Parquet, JSON lines or CSV with `,`, tab, `;` or `|` and a header."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a CSV, JSON lines or Parquet file")
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PAR1":
        return _parquet_table(path)
    if first_text(path).lstrip().startswith("{"):
        first = next(json_records(path))
        dated = tuple(name for name, value in first.values.items() if is_date(value))
        return UserTable(path, first.place, "json", tuple(first.values), dated)
    form = csv_format(path, _DELIMITERS, quote='"')
    first_row = next(csv_blocks(path, form, form.names), None) if len(set(form.names)) == len(form.names) else None
    dated = tuple(name for name, values in first_row.columns.items() if is_date(values[0].as_py())) if first_row else ()
    return UserTable(path, f"{path}:1", "csv", form.names, dated, form)


@dataclass(frozen=True, slots=True)
class _Rows:
    columns: Mapping[str, Any]
    places: Sequence[str]

    def where(self, row: int) -> str:
        return self.places[row]


@dataclass(frozen=True, slots=True)
class _ParquetRows:
    columns: Mapping[str, Any]
    path: Path
    first: int

    def where(self, row: int) -> str:
        return f"{self.path}: row {self.first + row}"


def _parquet_table(path: Path) -> UserTable:
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except PARQUET_DAMAGE as error:
        raise ValueError(f"{path}: not a whole Parquet file: {clause(error)}") from error
    dated = tuple(f.name for f in schema if pa.types.is_timestamp(f.type) or pa.types.is_date(f.type))
    kinds = {f.name: f.type for f in schema if schema.names.count(f.name) == 1}
    texts = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
    first = next(_parquet_blocks(path, texts), None) if texts else None
    dated += tuple(name for name in texts if first and len(first.columns[name]) and is_date(first.columns[name][0].as_py()))
    return UserTable(path, str(path), "parquet", tuple(schema.names), dated)


def _parquet_blocks(path: Path, wanted: Sequence[str]) -> Iterator[Block]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            first = 1
            for batch in file.iter_batches(batch_size=_ROWS, columns=list(wanted)):
                batch.validate(full=True)  # a broken file may hold bytes that are no text
                yield _ParquetRows({name: batch.column(name) for name in wanted}, path, first)
                first += batch.num_rows
            check_rows(first - 1, file)
    except PARQUET_DAMAGE as error:
        raise ValueError(f"{path}: not a whole Parquet file: {clause(error)}") from error


def _json_blocks(path: Path, wanted: Sequence[str]) -> Iterator[Block]:
    places: list[str] = []
    values: dict[str, list[str | None]] = {name: [] for name in wanted}
    for record in json_records(path):
        places.append(record.place)
        for name, column in values.items():
            column.append(_text(record, name))
        if len(places) == _ROWS:
            yield _Rows({name: pa.array(column, pa.string()) for name, column in values.items()}, places)
            places, values = [], {name: [] for name in wanted}
    if places:
        yield _Rows({name: pa.array(column, pa.string()) for name, column in values.items()}, places)


def _text(record: Record, name: str) -> str | None:
    """Numbers as Python writes them, lists as JSON."""
    value = record.values.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | dict):
        raise record.wrong(name, "a number, a text or a list of block ids")
    try:
        return json.dumps(value)
    except RecursionError:
        raise record.wrong(name, "a number, a text or a list of block ids") from None
