"""JSON-lines files record by record, with exact line numbers and bounds. It does not know what the records mean."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LONGEST_BYTES = 64 << 20
INT32, INT62 = 1 << 31, 1 << 62
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON object and its place ("FILE:LINE"); what is taken from it is checked, ValueError names place, key and value."""

    place: str
    values: dict[str, Any]

    def whole(self, key: str, below: int = INT32) -> int:
        """A whole number ≥ 0 and < `below`."""
        value = self.values.get(key)
        if type(value) is int and 0 <= value < below:
            return value
        raise self.wrong(key, f"a whole number ≥ 0 and < {below}")

    def number(self, key: str, below: float, least: float = 0.0) -> float:
        """A finite number ≥ `least` and < `below`."""
        value = self.values.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and least <= value < below:
            return float(value)
        raise self.wrong(key, f"a number ≥ {least:g} and < {below:g}")

    def known(self, key: str) -> bool:
        """Whether the key is there with something else than null."""
        return self.values.get(key) is not None

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if isinstance(value, str):
            return value
        raise self.wrong(key, "a text")

    def ids(self, key: str) -> list[int]:
        """A list of whole numbers ≥ 0 and < 2^62."""
        value = self.values.get(key)
        if (
            isinstance(value, list)
            and {int}.issuperset(map(type, value))
            and (not value or 0 <= min(value) <= max(value) < INT62)
        ):
            return value
        raise self.wrong(key, "a list of block ids ≥ 0 and < 2^62")

    def wrong(self, key: str, allowed: str) -> ValueError:
        """The error for a value that is not allowed."""
        if key not in self.values:
            return ValueError(f"{self.place}: {key} is missing; expected {allowed}")
        return ValueError(f"{self.place}: {key} is {_shown(self.values[key])}; expected {allowed}")


def json_records(path: Path, longest_bytes: int = LONGEST_BYTES) -> Iterator[Record]:
    """The object on every line that is not blank; ValueError "FILE:LINE: …" on the first line that holds none, or for no line."""
    found = False
    for number, value in json_lines(path, longest_bytes):
        found = True
        if not isinstance(value, dict):
            raise ValueError(f"{path}:{number}: expected an object, found {type(value).__name__}")
        yield Record(f"{path}:{number}", value)
    if not found:
        raise ValueError(f"{path}:1: no record; expected a JSON object a line")


def json_lines(path: Path, longest_bytes: int = LONGEST_BYTES) -> Iterator[tuple[int, Any]]:
    """(line number, value) of every line that is not blank; memory holds one line.

    ValueError "FILE:LINE: …" for a line that is not JSON (NaN and Infinity are none), not UTF-8 or longer than `longest_bytes`.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a file of JSON lines")
    with path.open("rb") as file:
        number = 0
        while line := file.readline(longest_bytes + 1):
            number += 1
            if len(line) > longest_bytes:
                raise ValueError(f"{path}:{number}: a line of more than {longest_bytes} bytes; allowed: up to that")
            if number == 1:
                line = line.removeprefix(_BOM)
            if line.strip():
                yield number, parsed(line, path, number)


def parsed(text: bytes, path: Path, line: int) -> Any:
    """The JSON value of `text`, which begins on a line; ValueError "FILE:LINE: …" with the line where it goes wrong."""
    place = f"{path}:{line}"
    try:
        value = json.loads(text.rstrip().decode(), parse_constant=_constant)
        if b"\\ud" in text or b"\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is JSON but no text
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{line + error.lineno - 1}: not JSON: {error.msg}, character {error.colno}") from error
    except UnicodeDecodeError as error:
        line += text.count(b"\n", 0, error.start)
        raise ValueError(f"{path}:{line}: not UTF-8 text: {error.reason}") from error
    except UnicodeError as error:
        raise ValueError(f"{place}: not UTF-8 text: {getattr(error, 'reason', error)}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON: {error}") from error
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _shown(value: Any) -> str:
    """A value for an error line: short, and one line."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    try:
        return repr(value)[:60]
    except (ValueError, RecursionError):  # a number of more than 4300 digits
        return f"a {type(value).__name__}"
