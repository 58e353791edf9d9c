"""Columns of text or numbers as token counts and microseconds, each bad value named by its place. It knows no file format."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from workloads.sources.json_array import shown
from workloads.sources.source import printable

Where = Callable[[int], str]
Ints = npt.NDArray[np.int64]
_MAX_TOKENS = 2**31 - 1
_MAX_US = 2**61
_UNHELD = (ValueError, TypeError, OverflowError, KeyError, pa.ArrowException)
COUNT = "a number of tokens ≥ 0"
INSTANT = "a time as YYYY-MM-DD HH:MM:SS[.fraction][+HH:MM]"
NUMBER = "a finite number"


def token_counts(column: Any, name: str, where: Where) -> npt.NDArray[np.int32]:
    """Whole numbers from 0 to 2³¹ − 1, given as integers, as text or as floats without a fraction; else ValueError."""
    plain = _flat(column)
    values = _integers(plain, pa.int32())
    if values is None:
        values = _each(plain, name, where, _count, COUNT)
    if len(values) and values.min() < 0:
        row = int(np.argmin(values >= 0))
        raise bad(where(row), name, plain[row].as_py(), COUNT)
    return values.astype(np.int32, copy=False)


def instants_us(column: Any, name: str, where: Where) -> Ints:
    """Unix microseconds of ISO 8601 times, digits beyond the microsecond cut; a time without an offset counts as UTC."""
    plain = _flat(column)
    if pa.types.is_timestamp(plain.type) and not plain.null_count and (ticks := _ticks(plain)) is not None:
        return ticks
    if pa.types.is_string(plain.type) and not plain.null_count:
        for kind in (pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
            try:
                parsed = pc.cast(plain, kind)
            except pa.ArrowException:
                continue
            if (kind.unit == "us" or _within_nanoseconds(plain)) and (ticks := _ticks(parsed)) is not None:
                return ticks
    return _each(plain, name, where, instant_us, INSTANT)


def times_us(column: Any, name: str, where: Where, per_second: int = 1) -> Ints:
    """Microseconds from numbers of which `per_second` make a second (1, 1_000, …), integers exactly, floats rounded."""
    plain = _flat(column)
    whole = _integers(plain, pa.int64())
    most = _MAX_US * per_second // 10**6
    if whole is not None and (not len(whole) or max(-int(whole.min()), int(whole.max())) <= most):
        return whole * (10**6 // per_second) if per_second <= 10**6 else whole // (per_second // 10**6)
    floats = _floats(plain)
    if floats is not None:
        with np.errstate(over="ignore"):
            us = floats * (1e6 / per_second)
        if bool((np.abs(us) < _MAX_US).all()):  # false for NaN
            return np.rint(us).astype(np.int64)
    return _each(plain, name, where, lambda value: _microseconds(value, per_second), NUMBER)


def texts(column: Any, name: str, where: Where) -> Any:
    """The column as text, numbers written out, nulls kept; ValueError for lists and other structures."""
    plain = _flat(column)
    if pa.types.is_string(plain.type):
        return plain
    try:
        return plain.cast(pa.string())
    except pa.ArrowException:
        raise bad(where(0), name, values_of(plain[:1])[0] if len(plain) else None, "a text or a number") from None


def is_date(value: object) -> bool:
    """True for a date with or without a time, as a text or an object: numbers are none."""
    try:
        instant_us(value)
    except (ValueError, TypeError, OverflowError):
        return False
    return not (isinstance(value, str) and value.strip().isdecimal())


def bad(where: str, name: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{where}: {printable(name)[:60]} is {shown(value)}; expected {allowed}")


def _flat(column: Any) -> Any:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    as_text = pa.types.is_large_string(array.type) or array.type == pa.string_view()
    return array.cast(pa.string()) if as_text else array


def _integers(array: Any, kind: Any) -> npt.NDArray[Any] | None:
    """The column as integers of a kind, or None where that does not hold for every value."""
    if array.null_count or pa.types.is_boolean(array.type) or not (_is_number(array.type) or pa.types.is_string(array.type)):
        return None
    if pa.types.is_string(array.type) and pc.any(pc.match_substring_regex(array, "[^0-9-]")).as_py():
        return None  # Arrow reads 0x10 as sixteen
    try:
        return np.asarray(array.cast(kind).to_numpy(zero_copy_only=False))
    except pa.ArrowException:
        return None


def _floats(array: Any) -> npt.NDArray[np.float64] | None:
    if array.null_count or not (_is_number(array.type) or pa.types.is_string(array.type)):
        return None
    try:
        return np.asarray(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    except pa.ArrowException:
        return None


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _each(array: Any, name: str, where: Where, of: Callable[[Any], int], allowed: str) -> Ints:
    """Value by value: slow, and exact about the first that is none."""
    values = values_of(array)
    made = np.empty(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        try:
            made[row] = of(value)
        except (ValueError, TypeError, OverflowError):
            raise bad(where(row), name, value, allowed) from None
    return made


def values_of(array: Any) -> list[Any]:
    """The values as Python has them; a text that says their type for what it has not (the year 292278, an unknown zone)."""
    try:
        return list(array.to_pylist())
    except _UNHELD:
        return [_value(scalar) for scalar in array]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except _UNHELD:
        return f"{scalar.type} that Python cannot hold"


def _count(value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal() and value.isascii():
        value = int(value.strip()[:20])
    number = float(_number(value))
    if number != int(number) or not 0 <= number <= _MAX_TOKENS:
        raise ValueError
    return int(number)


def _microseconds(value: Any, per_second: int) -> int:
    us = float(_number(value)) * (1e6 / per_second)
    if not abs(us) < _MAX_US:
        raise ValueError
    return round(us)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str) and ("_" in value or not value.isascii()):  # Python reads 1_0 as ten
        raise ValueError
    return float(value)


def instant_us(value: Any) -> int:
    """Unix microseconds of an ISO 8601 text, a date or a datetime; ValueError or TypeError for anything else."""
    if not isinstance(value, str | date):
        raise TypeError
    if not isinstance(value, str | datetime):
        value = datetime(value.year, value.month, value.day)
    moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds


def _within_nanoseconds(texts: Any) -> bool:
    """True where no year would overflow a 64-bit count of nanoseconds."""
    if not len(texts):
        return True
    years = pc.min_max(pc.utf8_slice_codeunits(texts, 0, 4)).as_py()
    return bool(years["min"] >= "1700" and years["max"] <= "2200")


def _ticks(times: Any) -> Ints | None:
    """Microseconds of an Arrow time column, cut; None where some are out of all bounds."""
    unit_us = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 1}[times.type.unit]
    ticks = np.asarray(times.cast(pa.int64()).to_numpy(zero_copy_only=False))
    if times.type.unit == "ns":
        return ticks // 1000
    most = _MAX_US // unit_us
    return ticks * unit_us if not len(ticks) or -most < ticks.min() <= ticks.max() < most else None
