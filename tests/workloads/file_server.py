"""A real HTTP server on loopback that misbehaves as told: cuts connections, ignores ranges, lies about lengths, dawdles."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What is served under one path, and how. `cuts` are bytes after which an answer breaks off, one a request, then none."""

    content: bytes = b""
    zeros: int = 0  # that many zero bytes instead of the content
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    ranges: bool = True
    range_shift: int = 0
    no_such_range: bool = False
    status: int = 200
    length: int | None = None
    cuts: list[int] = field(default_factory=list)
    pause_s: float = 0.0
    location: str = ""

    @property
    def size(self) -> int:
        return self.zeros or len(self.content)


class FileServer:
    """`files` by path, `requests` as (method, path, headers) in the order they came."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, Served] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []

    def serve(self, path: str, content: bytes = b"", **how: object) -> Served:
        self.files[path] = Served(content, **how)  # type: ignore[arg-type]
        return self.files[path]

    def gets(self, path: str) -> list[dict[str, str]]:
        return [headers for method, asked, headers in self.requests if (method, asked) == ("GET", path)]


@contextmanager
def file_server() -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, shared)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    shared = FileServer(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield shared
    finally:
        server.shutdown()
        server.server_close()


def _answer(handler: BaseHTTPRequestHandler, shared: FileServer) -> None:
    path = handler.path.partition("?")[0]
    shared.requests.append((handler.command, path, dict(handler.headers)))
    file = shared.files.get(path, Served(status=404))
    first, status = 0, file.status
    asked = handler.headers.get("Range", "")
    current = handler.headers.get("If-Range") in (None, file.headers.get("ETag"), file.headers.get("Last-Modified"))
    if asked and file.ranges and current:
        first = int(asked.removeprefix("bytes=").removesuffix("-"))
        status = 416 if file.no_such_range or first >= file.size else 206
    body = file.size - first if status in (200, 206) else 0
    handler.send_response(status)
    for name, value in file.headers.items():
        handler.send_header(name, value)
    if status == 206:
        handler.send_header("Content-Range", f"bytes {first + file.range_shift}-{file.size - 1}/{file.size}")
    if file.location:
        handler.send_header("Location", file.location)
    handler.send_header("Content-Length", str(body if file.length is None else file.length))
    handler.send_header("Connection", "close")
    handler.end_headers()
    if handler.command == "GET" and body:
        _send(handler, file, first)


def _send(handler: BaseHTTPRequestHandler, file: Served, first: int) -> None:
    last = min(file.size, first + file.cuts.pop(0)) if file.cuts else file.size
    try:
        for at in range(first, last, 65_536):
            chunk = bytes(min(65_536, last - at)) if file.zeros else file.content[at : min(at + 65_536, last)]
            handler.wfile.write(chunk)
            time.sleep(file.pause_s)
    except (BrokenPipeError, ConnectionResetError):
        pass
    handler.close_connection = True
