"""A replica that does exactly what a test tells it: raw bytes out, whole requests in, nothing parsed that matters."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

OK = {"choices": [{"text": "hi"}], "usage": {"completion_tokens": 2, "prompt_tokens": 3}}


@dataclass
class Asked:
    """One request as it came; header names in small letters."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n == name), None)


Script = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """A request and the way to answer it."""

    asked: Asked
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def until_gone(self) -> None:
        """Until the router hangs up."""
        while await self.reader.read(65536):
            pass


def whole(body: bytes, status: str = "200 OK", headers: str = "content-type: application/json\r\n") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENTS_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def event(data: object) -> bytes:
    return chunk(b"data: %b\n\n" % (data if isinstance(data, bytes) else json.dumps(data).encode()))


def stream(*events: object, done: bool = True) -> bytes:
    """A whole stream of events, framed."""
    return EVENTS_HEAD + b"".join(event(e) for e in events) + (event(b"[DONE]") if done else b"") + LAST_CHUNK


async def ticks() -> None:
    """What has been begun, is: accepted connections have their task, closed ones are closed."""
    for _ in range(4):
        await asyncio.sleep(0)


async def say_ok(exchange: Exchange) -> None:
    """The usual answer."""
    await exchange.send(whole(json.dumps(OK).encode()))


@dataclass
class FakeReplica:
    """Answers `/health` by `healthy` and `/metrics` by `gauges`; everything else is up to `script`."""

    script: Script = say_ok
    healthy: bool = True
    gauges: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    gone: int = 0  # connections lost while a script was writing or waiting
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "FakeReplica":
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Listen no more, and hang up on everybody."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        await ticks()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*list(self._tasks), return_exceptions=True)
        await ticks()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._serve(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone += 1
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            method, target, _ = first.split(" ", 2)
            headers = [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines)]
            length = int(dict(headers).get("content-length", 0))
            asked = Asked(method, target, headers, await reader.readexactly(length), number)
            if target == "/health":
                writer.write(whole(b"", "200 OK" if self.healthy else "503 Service Unavailable"))
            elif target == "/metrics" and method == "GET":
                writer.write(whole(self.gauges.encode(), headers="content-type: text/plain\r\n"))
            else:
                self.asked.append(asked)
                await self.script(Exchange(asked, writer, reader))
            await writer.drain()
            if writer.transport.is_closing():
                return
