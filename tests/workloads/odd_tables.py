"""Parquet files that are whole and hold what nobody expects: other types, names and shapes. It does not know any source."""

from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_I64 = 2**63 - 1
_MESSAGE = {"role": "user", "content": "q", "from": "human", "timestamp": -1}
_TEXT, _WHOLE = pa.string(), pa.int64()
_SCALARS: tuple[tuple[Any, Any], ...] = (
    *((pa.null(), None), (pa.bool_(), True), (pa.int8(), -128), (pa.uint64(), 2**64 - 1), (_WHOLE, -_I64), (pa.int32(), 7)),
    *((pa.float32(), float("nan")), (pa.float64(), 1e308), (pa.float64(), float("inf")), (pa.float64(), 3.0)),
    *((pa.decimal128(38, 3), Decimal("12.5")), (_TEXT, "\x1b[2J\n\u2028"), (_TEXT, ""), (_TEXT, "4_0")),
    *((pa.large_string(), "12"), (pa.string_view(), "2023-11-16"), (pa.binary(), b"\xff\xfe"), (pa.large_binary(), b"7")),
    *((pa.binary(3), b"abc"), (pa.date32(), date(1, 1, 1)), (pa.date64(), date(9999, 12, 31)), (pa.duration("s"), _I64)),
)
_NESTED: tuple[tuple[Any, Any], ...] = (
    *((pa.list_(_WHOLE), [1, 2, 3]), (pa.large_list(pa.int32()), [1]), (pa.list_(_WHOLE, 2), [5, 6]), (pa.list_(pa.null()), [])),
    *((pa.list_(pa.list_(_TEXT)), [["a"], None]), (pa.struct({"a": _WHOLE}), {"a": 1}), (pa.map_(_TEXT, _WHOLE), [("k", 1)])),
    (pa.list_(pa.struct({k: _TEXT if k != "timestamp" else _WHOLE for k in _MESSAGE})), [_MESSAGE, _MESSAGE]),
    (pa.list_(pa.struct({"role": _WHOLE, "content": pa.binary()})), [{"role": 1, "content": b"\xff"}]),
    (pa.list_(pa.struct({"role": _TEXT})), [{"role": "user"}, None]),
)
_TICKS = (0, 1, -1, _I64, -_I64, 2**62, 1_700_000_000, 1_700_000_000_000_000, -62_135_596_800, 253_402_300_800)
_ZONES = (None, "UTC", "+14:00", "Mars/Phobos", "Europe/Berlin", "")


def odd_table(content: bytes, draw: Random) -> bytes:
    """The table of a Parquet file after one to three changes of its columns, as a whole Parquet file."""
    table = pq.read_table(pa.BufferReader(content))
    for _ in range(draw.choice((1, 1, 2, 3))):
        table = draw.choice((_other_type, _other_type, _other_type, _other_columns, _other_rows))(table, draw)
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(table, sink, row_group_size=draw.choice((1, 3, 1000)), store_schema=draw.random() < 0.8)
    except (pa.ArrowException, ValueError):  # Parquet has no such type or no such value
        return content
    return bytes(sink.getvalue())


def _other_type(table: Any, draw: Random) -> Any:
    if not table.num_columns:
        return table
    at = draw.randrange(table.num_columns)
    return table.set_column(at, table.column_names[at], _odd_array(table.num_rows, draw))


def _odd_array(rows: int, draw: Random) -> Any:
    missing = draw.choice((0.0, 0.0, 0.3, 1.0))
    holes = [draw.random() < missing for _ in range(rows)]
    if draw.random() < 0.4:
        ticks = np.array([draw.choice(_TICKS) for _ in range(rows)], dtype=np.int64)
        kind = pa.timestamp(draw.choice(("s", "ms", "us", "ns")), draw.choice(_ZONES))
        return pa.array(ticks, mask=np.array(holes, dtype=bool)).cast(kind)
    kind, value = draw.choice((*_SCALARS, *_NESTED))
    made = pa.array([None if hole else value for hole in holes], kind)
    return made.dictionary_encode() if pa.types.is_string(kind) and draw.random() < 0.5 else made


def _other_columns(table: Any, draw: Random) -> Any:
    names = list(table.column_names)
    if not names:
        return table
    one, other = draw.choice(names), draw.choice(names)
    at = names.index(one)
    match draw.randrange(5):
        case 0:
            return table.append_column(one, _odd_array(table.num_rows, draw))  # two of one name
        case 1:
            return table.remove_column(at)
        case 2:
            return table.rename_columns(
                [draw.choice((other, one.upper(), f"{one}.x", "\x1b\n", "")) if n == one else n for n in names]
            )
        case 3:
            return table.select(draw.sample(range(len(names)), len(names)))
        case _:
            return table.append_column(draw.choice(("extra", "a.b", "timestamp", "turn\x00")), _odd_array(table.num_rows, draw))


def _other_rows(table: Any, draw: Random) -> Any:
    rows = table.num_rows
    return draw.choice((table.slice(0, 0), table.slice(0, 1), pa.concat_tables([table] * 3), table.slice(rows // 2)))
