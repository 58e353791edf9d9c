"""Where an HTTP message's body ends, read by read, without touching its bytes. It does not know what they mean.

`feed(data)` returns the place in `data` where the body ends, or -1 while more is to come; it raises `BadFraming` for what no
HTTP/1.1 sender may send (RFC 9112, section 7.1).
"""

import re
from typing import Protocol

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*;[^\r\n]*)?")
_LONGEST_LINE = 4096
_LONGEST_TRAILER = 16_384
_MOST_SIZES = 4096
_SHORT_LINE = 18

_AT_SIZE, _AT_TRAILER = -1, -2


class BadFraming(ValueError):
    """Not a chunked body."""


class BodyEnd(Protocol):
    def feed(self, data: bytes) -> int: ...

    @property
    def ends_with_connection(self) -> bool: ...


class LengthEnd:
    """A body of `Content-Length` bytes."""

    __slots__ = ("_left",)
    ends_with_connection = False

    def __init__(self, length: int) -> None:
        self._left = length

    def feed(self, data: bytes) -> int:
        left = self._left
        size = len(data)
        if size < left:
            self._left = left - size
            return -1
        self._left = 0
        return left


class CloseEnd:
    """A body that ends with its connection."""

    __slots__ = ()
    ends_with_connection = True

    def feed(self, data: bytes) -> int:
        return -1


class ChunkedEnd:
    """A chunked body, its trailers included. `sizes_read` counts chunks, but for those that came alone and whole."""

    __slots__ = ("_carry", "_left", "_trailer", "sizes_read")
    ends_with_connection = False
    _sizes: dict[bytes, int] = {}  # noqa: RUF012 - size lines repeat; all bodies share what was read before

    def __init__(self) -> None:
        self._left = _AT_SIZE  # of the chunk's data; then its CRLF is due
        self._carry = b""  # a line that is not whole yet
        self._trailer = self.sizes_read = 0

    def feed(self, data: bytes) -> int:
        if not self._carry:
            if self._left == _AT_SIZE:
                end = data.find(b"\r\n", 0, _SHORT_LINE)
                size = self._sizes.get(data[:end])
                if size and end + size + 4 == len(data) and data[-2:] == b"\r\n":
                    return -1  # one whole chunk: what engines send
            return self._scan(data)
        carried = len(self._carry)
        end = self._scan(self._carry + data)
        return end - carried if end >= 0 else -1

    def _scan(self, data: bytes) -> int:
        at, size, left = 0, len(data), self._left
        sizes = self._sizes
        self._carry = b""
        while left != _AT_TRAILER:
            if left >= 0:
                at += left
                if at + 2 > size:
                    self._wait_in_chunk(data, at, size)
                    return -1
                if not data.startswith(b"\r\n", at):
                    raise BadFraming("a chunk does not end where it says")
                at += 2
            end = data.find(b"\r\n", at)
            if end < 0:
                self._wait_in_line(data[at:], _AT_SIZE)
                return -1
            line = data[at:end]
            self.sizes_read += 1
            left = sizes[line] if line in sizes else self._size(line)
            at = end + 2
            if left == 0:
                left = _AT_TRAILER
        return self._scan_trailer(data, at)

    def _scan_trailer(self, data: bytes, at: int) -> int:
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                self._wait_in_line(data[at:], _AT_TRAILER)
                return -1
            if end == at:
                return at + 2
            if data.find(b"\n", at, end) >= 0 or data.find(b"\r", at, end) >= 0:
                raise BadFraming("a line break inside a trailer")
            self._trailer += end - at
            if self._trailer > _LONGEST_TRAILER:
                raise BadFraming("trailers without end")
            at = end + 2

    def _wait_in_chunk(self, data: bytes, at: int, size: int) -> None:
        if at >= size:
            self._left = at - size
            return
        self._left, self._carry = 0, data[at:]
        if self._carry != b"\r":
            raise BadFraming("a chunk does not end where it says")

    def _wait_in_line(self, carry: bytes, where: int) -> None:
        if len(carry) > _LONGEST_LINE:
            raise BadFraming("a line without end")
        self._left, self._carry = where, carry

    @classmethod
    def _size(cls, line: bytes) -> int:
        match = _SIZE.fullmatch(line)
        if match is None:
            raise BadFraming("not a chunk size")
        size = int(match[1], 16)
        if len(line) <= _SHORT_LINE:
            if len(cls._sizes) >= _MOST_SIZES:
                cls._sizes.clear()
            cls._sizes[line] = size
        return size


def payload_of(body: bytes) -> bytes:
    """The content of a whole chunked body."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].partition(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 4 + size
