"""A chunked body's content as it comes, for a client of HTTP/1.0, which knows no chunks. It does not know where the body ends.

uvicorn chunks its streams for HTTP/1.0 too, and nginx asks its upstreams in HTTP/1.0 unless told otherwise.
"""

from collections.abc import Callable

import httptools

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Unchunked:
    """`feed` takes the body's bytes, which `ChunkedEnd` found well formed, and writes what they hold."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(_HEAD)

    def on_body(self, data: bytes) -> None:
        self._write(data)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)
