"""HTTP/1.1 on one client's connection: whole requests in, answers out, within bounds. It knows no engine and no path.

A client that does not read stops being written to (`reading` is False) until it does; one that hangs up is told to whoever
answers it; pipelined requests wait for the answer before them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools

PHRASES = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    body_bytes: int = 64 << 20
    header_bytes: int = 64 << 10
    idle_s: float = 60.0


@dataclass(slots=True)
class HttpRequest:
    """One request, whole. Header names are in small letters."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True
    chunked: bool = True


class Responder(Protocol):
    """What is answering on a connection."""

    def on_gone(self) -> None:
        """The client has hung up."""

    def on_reading(self) -> None:
        """The client reads again."""


class Connection(asyncio.Protocol):
    """`answer(connection, request)` is called for each request; it ends with `respond`, or `begin_stream` … `end_stream`."""

    def __init__(self, answer: "Callable[[Connection, HttpRequest], None]", limits: Limits) -> None:
        self._answer, self._limits = answer, limits
        self.reading = True
        self.responder: Responder | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._waiting: deque[HttpRequest] = deque()
        self._waiting_bytes = 0
        self._request: HttpRequest | None = None  # being answered
        self._idle: asyncio.TimerHandle | None = None
        self._reset()

    # The transport's calls --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._set_idle()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "no upgrades here")
        except httptools.HttpParserCallbackError as error:
            refusal = error.__context__
            self._refuse(*(refusal.args if isinstance(refusal, _Refused) else (400, "bad request")))
        except httptools.HttpParserError:
            self._refuse(400, "Invalid HTTP request received.")
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        vars(self._transport).pop("_read_ready_cb", None)  # asyncio's transports refer to themselves
        self._transport = self._parser = None  # nor any other cycle for the garbage collector
        self._stop_idle()
        self._waiting.clear()
        responder, self.responder = self.responder, None
        if responder is not None:
            responder.on_gone()
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self.reading = False

    def resume_writing(self) -> None:
        self.reading = True
        if self.responder is not None:
            self.responder.on_reading()

    # The parser's calls -----------------------------------------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if int(self._headers.get("content-length", 0) or 0) > self._limits.body_bytes:
            raise _Refused(413, f"body of more than {self._limits.body_bytes} bytes")
        if self._headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._limits.body_bytes:
            raise _Refused(413, f"body of more than {self._limits.body_bytes} bytes")

    def on_message_complete(self) -> None:
        parser = self._parser
        try:
            path = httptools.parse_url(self._url).path.decode("latin-1")
        except httptools.HttpParserInvalidURLError:
            raise _Refused(400, "not a URL") from None
        modern = parser.get_http_version() == "1.1"
        method = parser.get_method().decode("ascii")
        request = HttpRequest(method, path, self._headers, b"".join(self._body), parser.should_keep_alive(), modern)
        self._reset()
        self._waiting.append(request)
        self._waiting_bytes += len(request.body)
        if self._request is not None and (len(self._waiting) > 100 or self._waiting_bytes > self._limits.body_bytes):
            raise _Refused(429, "too many pipelined requests")

    # What the application calls ---------------------------------------------------------------------------------------

    def respond(self, status: int, body: bytes, kind: str = "application/json", headers: str = "") -> None:
        """The whole answer at once."""
        request = self._request
        if self._transport is None or request is None:
            return
        close = "" if request.keep_alive else "connection: close\r\n"
        head = f"{_head(status, kind)}content-length: {len(body)}\r\n{headers}{close}\r\n"
        self._transport.write(head.encode() + (b"" if request.method == "HEAD" else body))
        self._end()

    @property
    def framed(self) -> bool:
        """Whether a stream goes out in HTTP chunks (else it ends with the connection)."""
        return self._request is not None and self._request.chunked

    def begin_stream(self) -> bytes:
        """The head of a stream of server-sent events, to be written with its first event."""
        assert self._request is not None
        if not self._request.chunked:
            self._request.keep_alive = False
        framing = "transfer-encoding: chunked\r\n" if self._request.chunked else ""
        close = "" if self._request.keep_alive else "connection: close\r\n"
        return f"{_head(200, 'text/event-stream; charset=utf-8')}cache-control: no-cache\r\n{framing}{close}\r\n".encode()

    def frame(self, event: bytes) -> bytes:
        """An event as it goes over the wire."""
        assert self._request is not None
        return b"%x\r\n%b\r\n" % (len(event), event) if self._request.chunked else event

    def writer(self) -> Callable[[bytes], object]:
        """What `write` calls while the connection lasts."""
        assert self._transport is not None
        return self._transport.write

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def end_stream(self, data: bytes) -> None:
        """The last bytes of a stream."""
        if self._transport is None or self._request is None:
            return
        self._transport.write(data + b"0\r\n\r\n" if self._request.chunked else data)
        self._end()

    def close(self) -> None:
        """Hang up, once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def busy(self) -> bool:
        return self._request is not None

    # Inside -----------------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header_bytes:
            raise _Refused(431, f"headers of more than {self._limits.header_bytes} bytes")

    def _next(self) -> None:
        while self._waiting and self._request is None and self._transport is not None:
            self._request = self._waiting.popleft()
            self._waiting_bytes -= len(self._request.body)
            self._stop_idle()
            self._answer(self, self._request)

    def _end(self) -> None:
        request, self._request, self.responder = self._request, None, None
        assert request is not None
        if not request.keep_alive:
            self.close()
            return
        self._set_idle()
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._next)

    def _refuse(self, status: int, why: str) -> None:
        """The connection cannot go on: one answer, unless another is under way, and a close."""
        if self._transport is None:
            return
        if self._request is None:
            body = why.encode()
            head = f"{_head(status, 'text/plain; charset=utf-8')}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self._transport.write(head.encode() + body)
        self._waiting.clear()
        self._transport.close()

    def _set_idle(self) -> None:
        self._stop_idle()
        self._idle = asyncio.get_running_loop().call_later(self._limits.idle_s, self.close)

    def _stop_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None


class _Refused(Exception):
    """(status, reason): what was sent is no request, or beyond the limits."""


def _head(status: int, kind: str) -> str:
    return f"HTTP/1.1 {status} {PHRASES[status]}\r\nserver: stampede\r\ncontent-type: {kind}\r\n"
