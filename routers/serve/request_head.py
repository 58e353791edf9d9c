"""The head of a client's request: parsed once, and written anew for a replica. It does not read bodies."""

from dataclasses import dataclass, field

import httptools

from routers.serve.headers import HOP_BY_HOP, Header, lines, listed
from routers.serve.openai_error import HttpError

_OURS = HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_ONCE = frozenset((b"host", b"transfer-encoding"))


@dataclass(slots=True)
class RequestHead:
    """`headers` are those that go on to a replica, names as they came; `known` has all, by name in small letters.

    `length` is None for a chunked body. `modern`: HTTP/1.1.
    """

    method: str
    target: bytes
    path: bytes
    modern: bool
    keep_alive: bool
    length: int | None
    expects_continue: bool
    headers: list[Header] = field(repr=False)  # they hold the client's key
    known: dict[bytes, bytes] = field(repr=False)

    def text(self, name: bytes) -> str | None:
        """A header's value, or None."""
        value = self.known.get(name)
        return None if value is None else value.decode("latin-1")

    def for_replica(self, host: bytes, prefix: bytes, length: int, forwarded_for: str | None = None) -> bytes:
        """The head as a replica gets it, its empty line included; `prefix` goes before the path."""
        version = b"1.1" if self.modern else b"1.0"
        size = b"content-length: %d\r\n" % length if length or self.method not in ("GET", "HEAD") else b""
        extra = b"" if forwarded_for is None else self._forwarded(forwarded_for)
        first = b"%b %b%b HTTP/%b\r\nhost: %b\r\n" % (self.method.encode(), prefix, self.target, version, host)
        return b"".join((first, lines(self.headers), extra, size, b"\r\n"))

    def _forwarded(self, address: str) -> bytes:
        before = self.known.get(b"x-forwarded-for")
        return b"x-forwarded-for: %b%b\r\n" % (b"" if before is None else before + b", ", address.encode())


class _Heard:
    """What the parser tells."""

    __slots__ = ("headers", "url")

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[Header] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


def parse_request_head(data: bytes, most_headers: int, forwarded_for: bool = False) -> RequestHead:
    """`data` is a head with its empty line; raises HttpError 400, 431, or 501 for what cannot be served."""
    heard = _Heard()
    parser = httptools.HttpRequestParser(heard)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer that may be declined by not taking it
    except httptools.HttpParserError as error:
        raise HttpError(400, f"not an HTTP request: {error}") from None
    if len(heard.headers) > most_headers:
        raise HttpError(431, f"more than {most_headers} headers")
    method = parser.get_method().decode("ascii")
    if method in ("CONNECT", "TRACE"):
        raise HttpError(501, f"{method} is not served")
    if not heard.url.startswith(b"/") or b"#" in heard.url:
        raise HttpError(400, "the request's target must be a path")
    version = parser.get_http_version()
    if version not in ("1.0", "1.1"):
        raise HttpError(505, "only HTTP/1.1 is served")
    return _head(method, heard, version == "1.1", forwarded_for)


def _head(method: str, heard: _Heard, modern: bool, forwarded_for: bool) -> RequestHead:
    known: dict[bytes, bytes] = {}
    kept: list[Header] = []
    connection: list[bytes] = []
    for header in heard.headers:
        name = header[0].lower()
        if name in known and name in _ONCE:
            raise HttpError(400, f"more than one {name.decode()} header")
        known[name] = header[1]
        if name == b"connection":
            connection.append(header[1])
        elif name not in _OURS:
            kept.append(header)
    keep_alive = modern
    if connection:
        named = listed(connection)
        keep_alive = modern and b"close" not in named
        kept = [h for h in kept if h[0].lower() not in named]
    if forwarded_for and b"x-forwarded-for" in known:
        kept = [h for h in kept if h[0].lower() != b"x-forwarded-for"]
    if modern and b"host" not in known:
        raise HttpError(400, "an HTTP/1.1 request needs a Host")
    encoding = known.get(b"transfer-encoding")
    if encoding is not None and encoding.strip().lower() != b"chunked":
        raise HttpError(501, "no transfer encoding but chunked is served")
    if encoding is not None and not modern:
        raise HttpError(400, "HTTP/1.0 has no transfer encodings")
    length = None if encoding is not None else int(known.get(b"content-length", 0))
    expects = modern and known.get(b"expect", b"").lower() == b"100-continue"
    return RequestHead(method, heard.url, heard.url.partition(b"?")[0], modern, keep_alive, length, expects, kept, known)
