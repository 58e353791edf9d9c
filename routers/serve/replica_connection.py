"""HTTP/1.1 with one replica: one request out, the response's bytes in as they come. It does not know what they mean."""

import asyncio
import time
from typing import TYPE_CHECKING, Protocol, cast

from routers.serve.body_end import BadFraming, BodyEnd
from routers.serve.response_head import BadResponse, ResponseHead, parse_response_head

if TYPE_CHECKING:
    from routers.serve.replica_link import ReplicaLink

_LONGEST_HEAD = 64 << 10
_MOST_DISCARDED = 64 << 10
_STALE_S = 1.0  # a connection that was closed for idleness is found out within a round trip
LOST, BAD = 0, 502


class Reader(Protocol):
    """Who a response is for. `data` holds the body's bytes as they came, chunk sizes included."""

    def on_head(self, head: ResponseHead) -> None: ...

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None:
        """The response is whole; the connection is no longer the reader's."""

    def on_broken(self, status: int, error: str) -> None:
        """It will not become whole: `LOST` (0) or `BAD`. The connection is no longer the reader's."""

    def on_moved(self, handle: "Handle") -> None:
        """It comes by another connection than `send` returned: hold this handle from now on."""


class Handle(Protocol):
    """What a reader may do with its connection."""

    def drop(self) -> None:
        """Hang up, so that the replica stops."""

    def discard(self, orphan: bool = False) -> None:
        """Let the rest of a short response come, and keep the connection; of an `orphan`, however long it is."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class _Discarded:
    """The reader of a response that nobody wants any more."""

    def __init__(self, connection: "ReplicaConnection", orphan: bool) -> None:
        self._connection, self._left = connection, float("inf") if orphan else _MOST_DISCARDED

    def on_head(self, head: ResponseHead) -> None: ...

    def on_data(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            self._connection.drop()

    def on_end(self) -> None: ...

    def on_broken(self, status: int, error: str) -> None: ...

    def on_moved(self, handle: Handle) -> None: ...


class ReplicaConnection(asyncio.Protocol):
    """Idle (no reader) or under way. `drop` may be called at any time, from inside a reader's calls too."""

    def __init__(self, link: "ReplicaLink") -> None:
        self._link = link
        self.transport: asyncio.Transport | None = None
        self.idle_since_s = self._started_s = self._discard_until_s = 0.0
        self._reader: Reader | None = None
        self._unanswered: bytes | None = None  # what was sent, until the first byte comes back
        self._used = False  # a response has come over it before
        self._to_head = False
        self._keep_alive = True
        self._head: ResponseHead | None = None
        self._body: BodyEnd | None = None
        self._partial = b""

    # What its users call

    def start(self, reader: Reader, request: bytes, to_head: bool) -> None:
        """Send a request; its response goes to `reader`."""
        assert self.transport is not None
        self._reader, self._to_head, self._unanswered = reader, to_head, request
        self._started_s = time.monotonic()
        self.transport.write(request)

    def drop(self) -> None:
        """Its reader wants no more: hang up, so that the replica stops."""
        self._reader = self._unanswered = None
        if self.transport is not None:
            self.transport.abort()

    def discard(self, orphan: bool = False) -> None:
        self.resume()
        self._reader = _Discarded(self, orphan)
        timeouts = self._link.timeouts
        self._discard_until_s = time.monotonic() + (timeouts.total_s if orphan else timeouts.pooled_s)

    def is_stuck(self, now_s: float) -> bool:
        """Whether what is to be discarded does not end."""
        return now_s > self._discard_until_s and isinstance(self._reader, _Discarded)

    def pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        if self.transport is not None:
            self.transport.resume_reading()

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self.drop()  # bytes nobody asked for
            return
        try:
            if self._head is None:
                self._unanswered = None
                data = self._take_head(data, reader)
                if self._head is None or self._reader is None:
                    return
                reader = self._reader
            body = self._body
            end = 0 if body is None else body.feed(data)
        except (BadResponse, BadFraming) as error:
            self._break(BAD, f"bad response: {error}")
            return
        if end < 0:
            if data:
                reader.on_data(data)
            return
        if end < len(data):
            data, self._keep_alive = data[:end], False  # the rest belongs to no request
        if data:
            reader.on_data(data)
        if self._reader is not None:
            self._end(self._reader)

    def eof_received(self) -> None:
        """The transport closes itself then."""

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._link.on_lost(self)
        reader = self._reader
        if reader is None:
            return
        if self._unanswered is not None and self._used and time.monotonic() - self._started_s < _STALE_S:
            # The replica closed it for idleness while the request was on its way: that says nothing about the request.
            request, self._unanswered, self._reader = self._unanswered, None, None
            self._link.redial(reader, request, self._to_head)
        elif self._body is not None and self._body.ends_with_connection and error is None:
            self._end(reader)
        else:
            self._break(LOST, "the connection was lost" if error is None else f"the connection was lost: {error}")

    # Inside

    def _take_head(self, data: bytes, reader: Reader) -> bytes:
        """What follows the head; `_head` is still None where that is not whole."""
        data = self._partial + data if self._partial else data
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > _LONGEST_HEAD:
                if len(data) > _LONGEST_HEAD:
                    raise BadResponse("a head without end")
                self._partial = data
                return b""
            head = parse_response_head(data[: end + 4], self._to_head)
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise BadResponse("an upgrade nobody asked for")
        self._partial = b""
        self._head, self._body, self._keep_alive = head, head.body, head.keep_alive
        reader.on_head(head)
        return data

    def _end(self, reader: Reader) -> None:
        keep_alive = self._keep_alive
        self._reader = self._head = self._body = None
        self._used = True
        if self.transport is None or self.transport.is_closing():
            pass
        elif keep_alive:
            self.transport.resume_reading()
            self._link.keep(self)
        else:
            self.transport.close()
        reader.on_end()

    def _break(self, status: int, error: str) -> None:
        reader = self._reader
        self.drop()
        if reader is not None:
            reader.on_broken(status, error)
