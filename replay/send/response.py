"""Reads one HTTP/1.1 response piece by piece: status, headers, and the body out of its framing. It knows no JSON and no event."""

_MOST_HEAD_BYTES = 64 << 10
_MOST_LINE_BYTES = 4 << 10
_CRLF = b"\r\n"


class BadResponse(Exception):
    """What came is not HTTP."""


class Response:
    """`feed` returns pieces of the body. `complete`: all of it has come. `reusable`: the connection may carry another request."""

    __slots__ = ("_held", "_left", "_read", "complete", "headers", "reusable", "started", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.started = self.complete = self.reusable = False
        self._held = b""
        self._left = 0
        self._read = Response._read_head  # not a bound method: that would be a cycle, and nobody collects those

    def feed(self, data: bytes) -> list[bytes]:
        """The body's bytes in `data`, in pieces; raises BadResponse."""
        self.started = True
        if self._held:
            data, self._held = self._held + data, b""
        return self._read(self, data)

    def on_eof(self) -> None:
        """The peer has closed: that ends a body without a length, and nothing else."""
        self.reusable = False
        self.complete = self.complete or self._read is Response._read_to_end

    # Inside ------------------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> list[bytes]:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _MOST_HEAD_BYTES or not b"HTTP/1.1 ".startswith(data[:7]):
                raise BadResponse(f"not an HTTP response: {data[:60]!r}")
            self._held = data
            return []
        first, *lines = data[:end].split(_CRLF)
        if not first.startswith(b"HTTP/1.") or not first[9:12].isdigit():
            raise BadResponse(f"not an HTTP response: {first[:60]!r}")
        self.status = int(first[9:12])
        rest = data[end + 4 :]
        if 100 <= self.status < 200:
            self.status = 0
            return self._read_head(rest) if rest else []
        for line in lines:
            name, _, value = line.partition(b":")
            self.headers[name.lower()] = value.strip()
        self._choose_framing(first)
        return self._read(self, rest) if rest and not self.complete else []

    def _choose_framing(self, first: bytes) -> None:
        """RFC 9112, section 6.3."""
        headers = self.headers
        self.reusable = first.startswith(b"HTTP/1.1") and b"close" not in headers.get(b"connection", b"").lower()
        length = headers.get(b"content-length", b"")
        if headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
            self._read = Response._read_chunks
        elif self.status in (204, 304) or length == b"0":
            self.complete = True
        elif length.isdigit():
            self._left, self._read = int(length), Response._read_length
        elif length:
            raise BadResponse(f"content-length: {length[:60]!r}")
        else:
            self.reusable, self._read = False, Response._read_to_end

    def _read_to_end(self, data: bytes) -> list[bytes]:
        return [data]

    def _read_length(self, data: bytes) -> list[bytes]:
        piece = data[: self._left]
        self._left -= len(piece)
        self.complete = not self._left
        self.reusable = self.reusable and len(piece) == len(data)
        return [piece]

    def _read_chunks(self, data: bytes) -> list[bytes]:
        at, end, left = 0, len(data), self._left  # `left`: of the chunk and of the line end behind it
        if not left and (line_end := data.find(_CRLF)) > 0:
            size = _size(data[:line_end])
            if size and line_end + size + 4 == end:  # one whole chunk, as mostly
                return [data[line_end + 2 : -2]]
        pieces = []
        while at < end:
            if left:
                stop = at + left
                piece = data[at : max(at, stop - 2)]
                at, left = (stop, 0) if stop <= end else (end, stop - end)
                if piece:
                    pieces.append(piece)
                continue
            line_end = data.find(_CRLF, at)
            if line_end < 0:
                self._held = data[at:]
                if len(self._held) > _MOST_LINE_BYTES:
                    raise BadResponse(f"not a chunk's size: {self._held[:60]!r}")
                break
            size = _size(data[at:line_end])
            at = line_end + 2
            if not size:
                self._left, self._read = 0, Response._read_trailer
                self._read_trailer(data[at:])
                return pieces
            left = size + 2
        self._left = left
        return pieces

    def _read_trailer(self, data: bytes) -> list[bytes]:
        """Lines up to an empty one."""
        while not self.complete:
            line, found, data = data.partition(_CRLF)
            if not found:
                self._held = line
                break
            self.complete = not line
        if data:
            self.reusable = False  # more than was asked for
        return []


def _size(line: bytes) -> int:
    try:
        size = int(line.partition(b";")[0], 16)
    except ValueError:
        size = -1
    if size < 0:
        raise BadResponse(f"not a chunk's size: {line[:60]!r}")
    return size
