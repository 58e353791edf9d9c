"""The records of a huge JSON array, one after another, each with its line. It does not know what a record is."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_CHARACTERS = 64 << 20
_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_EDGE = 16  # characters at a window's end in which an escape, a literal or a number may be cut


def array_records(path: Path) -> Iterator[tuple[int, int, Any]]:
    """(line where it begins, number from 1, value) of every record; memory holds a record and a window of 1 MiB or its size.

    Raises ValueError "FILE:LINE: …" in one line: no array, broken or cut JSON, NaN, not UTF-8, a record of more than 64 Mi
    characters, nested more deeply than Python can hold, more text behind the array.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder; expected a file of JSON")
    with path.open("rb") as file:
        window = TextWindow(path, file)
        window.skip_space()
        if window.peek() != "[":
            found = repr(window.text[window.at : window.at + 40]) if window.peek() else "nothing"
            raise ValueError(f"{path}:{window.line}: found {found}; expected a JSON array of records")
        window.move(window.at + 1)
        number = 0
        while number == 0 or window.peek() == ",":
            if number:
                window.move(window.at + 1)
            window.skip_space()
            if number == 0 and window.peek() == "]":
                break
            number += 1
            line = window.line
            yield line, number, window.value(number)
            window.skip_space()
        if window.peek() != "]":
            found = repr(window.peek()) if window.peek() else "the end"
            raise window.broken(number, f"expected ',' or ']' behind it, found {found}", window.at)
        window.move(window.at + 1)
        window.skip_space()
        if window.peek():
            raise ValueError(f"{path}:{window.line}: {window.text[window.at :][:40]!r} stands behind the end of the array")


class TextWindow:
    """A stretch of the file as text, and the place in it that is reached."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file
        self.text, self.at, self.line, self.ended = "", 0, 1, False
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._scan = json.JSONDecoder(parse_constant=_no_constant).raw_decode

    def move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character; empty at the end of the file."""
        while self.at == len(self.text) and self._more():
            pass
        return self.text[self.at : self.at + 1]

    def skip_space(self) -> None:
        while True:
            matched = _SPACE.match(self.text, self.at)
            self.move(matched.end() if matched else self.at)
            if self.at < len(self.text) or not self._more():
                return

    def value(self, number: int) -> Any:
        """The value that begins here; the place moves behind it."""
        while True:
            end = 0
            try:
                found, end = self._scan(self.text, self.at)
            except json.JSONDecodeError as error:
                inside = error.pos < len(self.text) - _EDGE and not error.msg.startswith("Unterminated string")
                if inside or self.ended:
                    raise self.broken(number, error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, NaN, nested too deeply
                raise ValueError(f"{self.path}:{self.line}: record {number}: {error}") from error
            self._check_length(number, end or len(self.text))
            if end and (self.ended or end + _EDGE < len(self.text) or self.text[end - 1] in '}]"'):
                self.move(end)
                return found
            self._more()

    def _check_length(self, number: int, end: int) -> None:
        if end - self.at > LONGEST_CHARACTERS:
            raise ValueError(f"{self.path}:{self.line}: record {number} has more than {LONGEST_CHARACTERS >> 20} Mi characters")

    def broken(self, number: int, what: str, at: int) -> ValueError:
        """Wrong JSON at a place of the text; the line is that of the place."""
        line = self.line + self.text.count("\n", self.at, at)
        where = f"in record {number}, character {at - self.at + 1}" if at > self.at else f"at record {number}"
        whole = self.text.rstrip()
        near = at >= len(whole) - _EDGE and not (whole.endswith("]") and at < len(whole))
        cut = "; the file looks cut off" if self.ended and (near or what.startswith("Unterminated string")) else ""
        return ValueError(f"{self.path}:{line}: broken JSON {where}: {what}{cut}")

    def _more(self) -> bool:
        """Read on, at least as much again as is kept, so that a long record costs no more than twice; False at the end."""
        kept = self.text[self.at :]
        chunk = self._file.read(max(_CHUNK_BYTES, len(kept)))
        self.ended = not chunk
        try:
            self.text, self.at = kept + self._decoder.decode(chunk, final=self.ended), 0
        except UnicodeDecodeError as error:
            line = self.line + kept.count("\n") + error.object[: error.start].count(b"\n")
            cut = "; the file looks cut off" if self.ended else ""
            raise ValueError(f"{self.path}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x}){cut}") from error
        return not self.ended


def shown(value: Any) -> str:
    """A value for an error line: short, and one line."""
    try:
        return repr(value)[:60]
    except (RecursionError, ValueError):  # nested as deeply as the scanner could just hold, or thousands of digits
        return f"a {type(value).__name__}, too deep or too long to show"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
