"""HTTP/1.1 with one client: whole requests in, bytes out, within limits and times. It does not know who answers.

One request at a time; what a client sends ahead waits in its buffer. A client that does not read pauses whoever answers it.
"""

import asyncio
import time
from typing import cast

from routers.serve.body_end import BadFraming, ChunkedEnd, payload_of
from routers.serve.front import Answerer, Front
from routers.serve.openai_error import HttpError, error_body
from routers.serve.request_head import RequestHead, parse_request_head
from routers.serve.status_line import status_line

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LINGER_S = 5.0
_FREE_CHUNKS, _LEAST_CHUNK = 4096, 128  # each chunk costs a microsecond: millions of them would stop all others


class ClientConnection(asyncio.Protocol):
    """Between `on_request` and `finish` it belongs to the answerer, who writes by `transport.write` (None once it is lost)."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self.transport: asyncio.Transport | None = None
        self.answerer: Answerer | None = None
        self.head: RequestHead | None = None  # of the request being answered
        self.full = False
        self.slot = -1
        self._due_s = 0.0
        self._buffer = b""
        self._coming: RequestHead | None = None  # its body is not whole yet
        self._parts: list[bytes] = []
        self._got = 0
        self._chunks: ChunkedEnd | None = None
        self._held = 0  # bytes counted by `buffered`
        self._deaf = False  # it was refused, and what it still sends is thrown away

    @property
    def busy(self) -> bool:
        return self.head is not None or self._coming is not None or bool(self._buffer)

    @property
    def peer(self) -> str:
        address = None if self.transport is None else self.transport.get_extra_info("peername")
        return str(address[0]) if address else "unknown"

    # The transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if not self._front.on_connection(self):
            self.refuse(503, "too many connections", at_once=True)
            return
        self._wait(self._front.settings.timeouts.keep_alive_s)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self.head is not None:
            self._buffer_ahead(data)
            return
        try:
            if self._coming is not None:
                self._take_body(data)
            else:
                self._take_head(data)
        except HttpError as error:
            self.refuse(error.status, error.message)
        except BadFraming as error:
            self.refuse(400, f"bad body: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._front.wheel.remove(self)
        self._release()
        self._buffer = b""
        answerer, self.answerer = self.answerer, None
        if answerer is not None:
            answerer.on_client_gone()
        self._front.on_connection_lost(self)

    def pause_writing(self) -> None:
        self.full = True
        if self.answerer is not None:
            self.answerer.on_client_full()

    def resume_writing(self) -> None:
        self.full = False
        if self.answerer is not None:
            self.answerer.on_client_reading()
        elif self._buffer:
            self._go_on()

    def on_due(self, now_s: float) -> None:
        """It has kept us waiting for too long."""
        if self.head is not None and self.transport is not None and not self.transport.is_closing():
            self._wait(self._front.settings.timeouts.keep_alive_s)  # whoever answers minds the time
        elif self._due_s > now_s:
            self._front.wheel.add(self, self._due_s)
        elif self._deaf or (self.transport is not None and self.transport.is_closing()):
            self.abort()  # it does not even read the end
        elif self._coming is None and not self._buffer:
            self.close()
        else:
            self.refuse(408, "the request did not come in time")

    # What an answerer calls

    def respond(self, status: int, body: bytes, kind: str = "application/json", extra: bytes = b"") -> None:
        """The whole answer at once, and the end of the request."""
        transport, head = self.transport, self.head
        if transport is not None and head is not None:
            closing = self._closing(head)
            first = b"%bcontent-type: %b\r\ncontent-length: %d\r\n" % (status_line(status), kind.encode(), len(body))
            rest = b"" if head.method == "HEAD" else body
            transport.write(b"".join((first, extra, b"connection: close\r\n\r\n" if closing else b"\r\n", rest)))
        self.finish()

    def head_end(self, ends_with_connection: bool) -> bytes:
        """What ends the head of a response: whether the connection stays, and the empty line."""
        assert self.head is not None
        if ends_with_connection:
            self.head.keep_alive = False
        return b"connection: close\r\n\r\n" if self._closing(self.head) else b"\r\n"

    def finish(self) -> None:
        """The answer is written; the next request may come."""
        head, self.head, self.answerer = self.head, None, None
        self._release()
        if self.transport is None or head is None:
            return
        if self._closing(head):
            self.close()
            return
        self._rest()
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._go_on)

    def close(self) -> None:
        """Hang up, once what was written has gone out."""
        transport = self.transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                self._wait(self._front.settings.timeouts.stalled_s)

    def abort(self) -> None:
        """Hang up now: what was answered is not whole."""
        if self.transport is not None:
            self.transport.abort()

    def refuse(self, status: int, message: str, at_once: bool = False) -> None:
        """No request, or one too many: one answer and a close.

        Closing while it sends would reset the connection, and the answer with it: what it sends is read, for a while.
        """
        if self.transport is None or self.transport.is_closing() or self._deaf:
            return
        body = error_body(status, message)
        first = b"%bcontent-type: application/json\r\ncontent-length: %d\r\n" % (status_line(status), len(body))
        self.transport.write(first + b"connection: close\r\n\r\n" + body)
        self._coming, self._buffer = None, b""
        self._release()
        if at_once:
            self.close()
            return
        self._deaf = True
        self.transport.write_eof()
        self._wait(_LINGER_S)

    # Inside

    def _closing(self, head: RequestHead) -> bool:
        return not head.keep_alive or self._front.draining

    def _wait(self, for_s: float) -> None:
        self._due_s = time.monotonic() + for_s
        self._front.wheel.add(self, self._due_s)

    def _rest(self) -> None:
        """No request: it may stay for a while. Its place on the wheel is kept, so this comes for nearly nothing."""
        self._due_s = time.monotonic() + self._front.settings.timeouts.keep_alive_s
        if self.slot < 0:
            self._front.wheel.add(self, self._due_s)

    def _buffer_ahead(self, data: bytes) -> None:
        assert self.transport is not None
        self._buffer += data
        if len(self._buffer) > self._front.settings.limits.header_bytes:
            self.transport.pause_reading()

    def _go_on(self) -> None:
        if self.transport is None or self.head is not None or self.full or not self._buffer:
            return
        data, self._buffer = self._buffer, b""
        self.transport.resume_reading()
        self.data_received(data)

    def _take_head(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if data.startswith(b"\r\n"):
            data = data.lstrip(b"\r\n")  # RFC 9112, 2.2: empty lines before a request are ignored
        end = data.find(b"\r\n\r\n")
        limits = self._front.settings.limits
        if end > limits.header_bytes or (end < 0 and len(data) > limits.header_bytes):
            raise HttpError(431, f"a head of more than {limits.header_bytes} bytes")
        if end < 0:
            if not self._buffer and data:
                self._wait(self._front.settings.timeouts.head_s)
            self._buffer = data
            return
        self._buffer = b""
        head = parse_request_head(data[: end + 4], limits.headers, self._front.settings.forwarded_for)
        rest = data[end + 4 :]
        length = head.length
        if length is not None and length <= len(rest):
            self._check_length(length)
            self._serve(head, rest[:length] if length < len(rest) else rest, rest[length:])
            return
        self._begin_body(head)
        if rest:
            self._take_body(rest)

    def _check_length(self, length: int) -> None:
        most = self._front.settings.limits.body_bytes
        if length > most:
            raise HttpError(413, f"a body of more than {most} bytes")

    def _begin_body(self, head: RequestHead) -> None:
        assert self.transport is not None
        if head.length is not None:
            self._check_length(head.length)
        self._coming, self._got = head, 0
        self._chunks = ChunkedEnd() if head.length is None else None
        self._wait(self._front.settings.timeouts.body_s)
        if head.expects_continue:
            self.transport.write(_CONTINUE)

    def _take_body(self, data: bytes) -> None:
        head = self._coming
        assert head is not None
        end = self._chunks.feed(data) if self._chunks is not None else self._length_end(head, len(data))
        rest = b""
        if end >= 0:
            data, rest = data[:end], data[end:]
        self._parts.append(data)
        self._got += len(data)
        self._check_length(self._got)
        if self._chunks is not None and self._chunks.sizes_read > _FREE_CHUNKS + self._got // _LEAST_CHUNK:
            raise HttpError(400, f"bad body: most chunks hold less than {_LEAST_CHUNK} bytes")
        if not self._front.buffered(len(data)):
            raise HttpError(503, "no room for more request bodies")
        self._held += len(data)
        if end >= 0:
            body = b"".join(self._parts)
            self._parts.clear()
            self._coming = None
            self._serve(head, body if self._chunks is None else payload_of(body), rest)

    def _length_end(self, head: RequestHead, size: int) -> int:
        assert head.length is not None
        left = head.length - self._got
        return left if size >= left else -1

    def _serve(self, head: RequestHead, body: bytes, rest: bytes) -> None:
        self.head, self._buffer = head, rest
        self._front.on_request(self, head, body)

    def _release(self) -> None:
        self._parts.clear()
        if self._held:
            self._front.buffered(-self._held)
            self._held = 0
