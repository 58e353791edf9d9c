"""CSV files as blocks of chosen columns, streamed, with the exact line of every row. It does not know what the columns mean."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv as arrow_csv

from workloads.sources.source import printable

BLOCK_BYTES = 8 << 20
ROW_BYTES = 64 << 20
"""A row that is longer is refused, so memory stays bounded whatever the file holds."""
_HEADER_BYTES = 1 << 20
_SAMPLE = 80


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """Column names in the file's order and how fields are divided; `quote` None: quotes are plain characters."""

    names: tuple[str, ...]
    delimiter: str = ","
    quote: str | None = None


@dataclass(frozen=True)
class CsvBlock:
    """Some rows of a file: the wanted columns as Arrow arrays of text (or int32 where asked for), and where they stand."""

    path: Path
    first_line: int
    format: CsvFormat
    columns: Mapping[str, Any]
    raw: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def where(self, row: int) -> str:
        """FILE:LINE of a row of the block (the line it begins on)."""
        return f"{self.path}:{self._lines[min(row, len(self._lines) - 1)]}"

    @cached_property
    def _lines(self) -> Sequence[int]:
        if self.format.quote is None or self.format.quote.encode() not in self.raw:
            return range(self.first_line, self.first_line + len(self))
        return [line for line, _ in _records(self.path, self.first_line, self.raw, self.format)]


def csv_format(path: Path, delimiters: str = ",", quote: str | None = None) -> CsvFormat:
    """The header's names and the delimiter that divides it most; ValueError "FILE:1: …" when there is no readable header."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a CSV file")
    with path.open("rb") as file:
        line = file.readline(_HEADER_BYTES).removeprefix(b"\xef\xbb\xbf")
    if len(line) >= _HEADER_BYTES - 3 and not line.endswith(b"\n"):
        raise ValueError(f"{path}:1: a header of more than {_HEADER_BYTES >> 20} MiB")
    try:
        text = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}:1: the header is not UTF-8 text") from None
    if not text.strip():
        raise ValueError(f"{path}:1: expected a header with the names of the columns, found an empty line")
    delimiter = max(delimiters, key=text.count)
    made = CsvFormat((), delimiter, quote)
    (_, names), *_ = _records(path, 1, text.encode(), made)
    return CsvFormat(tuple(name.strip() for name in names), delimiter, quote)


def csv_blocks(
    path: Path, form: CsvFormat, wanted: Sequence[str], integers: Sequence[str] = (), size: int = BLOCK_BYTES
) -> Iterator[CsvBlock]:
    """The rows below the header, block by block: the `wanted` columns as text, those in `integers` as int32 where all fit.

    Line ends are LF or CRLF, the last may be missing. Raises ValueError "FILE:LINE: …" at a row with more or fewer fields than
    the header, a quote that is never closed, text that is not UTF-8, or a row beyond 64 MiB.
    """
    places = [form.names.index(name) for name in wanted]
    for first_line, raw in _raw_blocks(path, form, size):
        yield CsvBlock(path, first_line, form, _parsed(path, first_line, raw, form, wanted, places, integers), raw)


def _parsed(
    path: Path, first_line: int, raw: bytes, form: CsvFormat, wanted: Sequence[str], places: list[int], integers: Sequence[str]
) -> dict[str, Any]:
    blank = raw.startswith((b"\n", b"\r\n")) or b"\n\n" in raw or b"\n\r\n" in raw
    if blank or raw.count(b"\r") != raw.count(b"\r\n"):  # Arrow makes a row of a blank line, and a line end of any \r
        _check(path, first_line, raw, form)
    # Arrow reads 0x10 as sixteen: then the text has to be looked at
    typed = {} if b"x" in raw or b"X" in raw else dict.fromkeys(integers, pa.int32())
    for types in (typed, {}) if typed else ({},):
        try:
            table = _arrow(raw, form, wanted, places, types)
        except pa.ArrowException as error:
            problem = str(error).splitlines()[0]
        else:
            return dict(zip(wanted, table.columns, strict=True))
    _check(path, first_line, raw, form)
    raise ValueError(f"{path}:{first_line}: in the rows from here on: {problem}")


def _arrow(raw: bytes, form: CsvFormat, wanted: Sequence[str], places: list[int], types: Mapping[str, Any]) -> Any:
    names = [str(i) for i in range(len(form.names))]  # a file may name two columns alike
    columns = {str(place): types.get(name, pa.string()) for name, place in zip(wanted, places, strict=True)}
    return arrow_csv.read_csv(
        pa.BufferReader(raw),
        arrow_csv.ReadOptions(column_names=names, block_size=len(raw) + 1, use_threads=False),
        arrow_csv.ParseOptions(
            delimiter=form.delimiter,
            quote_char=form.quote or False,
            newlines_in_values=form.quote is not None,
            ignore_empty_lines=False,
        ),
        arrow_csv.ConvertOptions(column_types=columns, include_columns=[str(p) for p in places], null_values=[]),
    )


def _raw_blocks(path: Path, form: CsvFormat, size: int) -> Iterator[tuple[int, bytes]]:
    """(first line, bytes) of whole rows; blank lines at the end of the file are no rows."""
    line, rest = 2, b""
    with path.open("rb") as file:
        file.readline()
        while chunk := file.read(size):
            rest += chunk
            text = rest[: _row_end(rest, form.quote)].rstrip(b"\r\n")
            if text:
                cut = rest.index(b"\n", len(text)) + 1
                raw, rest = rest[:cut], rest[cut:]
                yield line, raw
                line += raw.count(b"\n")
            elif len(rest) > ROW_BYTES:
                raise ValueError(f"{path}:{line}: a row of more than {ROW_BYTES >> 20} MiB, or a quote that is not closed")
    if rest.strip(b"\r\n"):
        yield line, rest.rstrip(b"\r\n")


def _row_end(raw: bytes, quote: str | None) -> int:
    """Where the last whole row ends: behind a line end with an even number of quotes before it; 0 if there is none."""
    cut = raw.rfind(b"\n") + 1
    if quote is None or not cut:
        return cut
    open_quotes = raw.count(quote.encode(), 0, cut) % 2
    while cut and open_quotes:
        earlier = raw.rfind(b"\n", 0, cut - 1) + 1
        open_quotes ^= raw.count(quote.encode(), earlier, cut) % 2
        cut = earlier
    return cut


def _check(path: Path, first_line: int, raw: bytes, form: CsvFormat) -> None:
    """Raise at the first row that has not as many fields as the header."""
    for line, fields in _records(path, first_line, raw, form):
        if len(fields) != len(form.names):
            names, found = (form.delimiter.join(texts)[:_SAMPLE] for texts in (form.names, fields))
            raise ValueError(f"{path}:{line}: expected {printable(names)}, found {found!r}")


def _records(path: Path, first_line: int, raw: bytes, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of every row, one by one: slow, exact, for what the fast way does not like."""
    lines = raw.decode(errors="surrogateescape")
    if form.quote is None:
        for number, text in enumerate(lines.removesuffix("\n").split("\n"), first_line):
            text = _clean(path, number, text.removesuffix("\r"))
            if "\r" in text:
                raise ValueError(f"{path}:{number}: a carriage return inside a row: {text[:_SAMPLE]!r}")
            yield number, text.split(form.delimiter)
        return
    reader = csv.reader(io.StringIO(lines, newline="\n"), delimiter=form.delimiter, quotechar=form.quote, strict=True)
    csv.field_size_limit(ROW_BYTES)
    line = first_line
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}:{line}: not a CSV row: {error}") from error
        if fields is None:
            return
        _clean(path, line, "".join(fields))
        yield line, fields
        line = first_line + reader.line_num


def _clean(path: Path, line: int, text: str) -> str:
    if not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text):
        raise ValueError(f"{path}:{line}: not UTF-8 text: {text[:_SAMPLE]!r}")
    return text
