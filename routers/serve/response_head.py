"""The head of a replica's response: parsed, and written anew for the client. It does not read bodies."""

from dataclasses import dataclass, field

import httptools

from routers.serve.body_end import BodyEnd, ChunkedEnd, CloseEnd, LengthEnd
from routers.serve.headers import HOP_BY_HOP, Header, lines, listed

_NO_CONTENT = 204
_CHUNKED = b"transfer-encoding: chunked\r\n"


class BadResponse(ValueError):
    """A replica sent what is no HTTP response."""


@dataclass(slots=True)
class ResponseHead:
    """`for_client` is everything but the `connection` header and the empty line; `body` None: there is none."""

    status: int
    keep_alive: bool
    event_stream: bool
    body: BodyEnd | None
    for_client: bytes = field(repr=False)

    @property
    def chunked(self) -> bool:
        return isinstance(self.body, ChunkedEnd)

    @property
    def unchunked(self) -> bytes:
        """`for_client` of an answer without its chunks."""
        return self.for_client.removesuffix(_CHUNKED)


class _Heard:
    __slots__ = ("headers", "reason")

    def __init__(self) -> None:
        self.reason = b""
        self.headers: list[Header] = []

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


_seen: dict[tuple[bytes, bool], tuple[ResponseHead, int | None]] = {}  # heads repeat, within a second or for ever
_MOST_SEEN, _LONGEST_SEEN = 512, 1024


def parse_response_head(data: bytes, to_head: bool) -> ResponseHead:
    """`data` is a head with its empty line, `to_head`: it answers a HEAD request; raises BadResponse."""
    key = data, to_head
    seen = _seen.get(key)
    if seen is None:
        seen = _parse(data, to_head)
        if len(data) <= _LONGEST_SEEN:
            if len(_seen) >= _MOST_SEEN:
                _seen.clear()
            _seen[key] = seen
    head, length = seen
    body = None if head.body is None else _body(head.chunked, length)
    return ResponseHead(head.status, head.keep_alive, head.event_stream, body, head.for_client)


def _parse(data: bytes, to_head: bool) -> tuple[ResponseHead, int | None]:
    heard = _Heard()
    parser = httptools.HttpResponseParser(heard)
    try:
        parser.feed_data(data)
        status = parser.get_status_code()
    except httptools.HttpParserUpgrade:
        raise BadResponse("an upgrade nobody asked for") from None
    except (httptools.HttpParserError, ValueError) as error:
        raise BadResponse(str(error)) from None
    if status < 100:
        raise BadResponse(f"status {status}")
    kept: list[Header] = []
    connection: list[bytes] = []
    length: int | None = None
    chunked = events = False
    for header in heard.headers:
        name = header[0].lower()
        if name == b"content-length":
            length = int(header[1])
            if status == _NO_CONTENT:
                continue  # RFC 9110, 8.6: there it may not stand
        elif name == b"transfer-encoding":
            chunked = _is_chunked(header[1])
            continue
        elif name == b"connection":
            connection.append(header[1])
            continue
        elif name in HOP_BY_HOP:
            continue
        elif name == b"content-type":
            events = header[1].lower().startswith(b"text/event-stream")
        kept.append(header)
    named = listed(connection)
    if named:
        kept = [h for h in kept if h[0].lower() not in named]
    body = None if to_head or status in (204, 304) or status < 200 else _body(chunked, length)
    first = b"HTTP/1.1 %d %b\r\n" % (status, heard.reason)
    framing = _CHUNKED if chunked and body is not None else b""
    keep_alive = b"close" not in named if parser.get_http_version() == "1.1" else b"keep-alive" in named
    if body is not None and body.ends_with_connection:
        keep_alive = False
    return ResponseHead(status, keep_alive, events, body, first + lines(kept) + framing), length


def _is_chunked(encoding: bytes) -> bool:
    if encoding.strip().lower() != b"chunked":
        raise BadResponse("a transfer encoding other than chunked")
    return True


def _body(chunked: bool, length: int | None) -> BodyEnd:
    if chunked:
        return ChunkedEnd()
    return CloseEnd() if length is None else LengthEnd(length)
