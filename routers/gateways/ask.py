"""One caller of a gateway under test: a kept connection, one completion at a time, each answer timed. It judges nothing.

It is no load generator: it holds no schedule and spends what time it likes between requests.
"""

import asyncio
import json
import socket
import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httptools

TIMEOUT_S = 30.0
LOST = 0  # the status of an answer that did not come, or not whole


@dataclass(slots=True)
class Answer:
    """`status` 0: no whole answer came. `first_s` after the request's last byte was handed over: the body's first bytes;
    `max_gap_s`: the longest time between two reads after them."""

    status: int = LOST
    body: bytes = b""
    first_s: float | None = None
    max_gap_s: float = 0.0
    ended_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.status == 200


class Caller:
    """`async with Caller(url) as it:` one TCP connection; `quick_ack` acknowledges at once what comes (TCP_QUICKACK, which Linux
    forgets: it is set anew around each read), else the kernel delays its acknowledgements as it likes."""

    def __init__(self, url: str, quick_ack: bool = False) -> None:
        if quick_ack and sys.platform != "linux":
            raise ValueError("quick_ack is not allowed on this system; only Linux has TCP_QUICKACK")
        address = urlsplit(url)
        self._address = address.hostname or "", address.port or 80
        self._quick_ack = quick_ack
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    async def ask(
        self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Answer:
        """POST `body`; an answer that is lost or late has status 0. The connection is made anew where it was closed."""
        answer = _Reading()
        if self._socket is None:
            await self._connect()
        begun_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(timeout_s):
                await self._exchange(_request(path, body, headers or {}), answer)
        except (OSError, TimeoutError, httptools.HttpParserError):
            answer.result.status = LOST
        if answer.result.status == LOST or not answer.keep_alive:
            self.hang_up()
        answer.result.ended_s = asyncio.get_running_loop().time() - begun_s
        return answer.result

    async def _connect(self) -> None:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(made, self._address)
        except OSError:
            made.close()
            return  # asked without a connection, the answer is lost
        self._socket = made

    async def _exchange(self, request: bytes, answer: "_Reading") -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            raise ConnectionError
        await loop.sock_sendall(self._socket, request)
        sent_s = loop.time()
        while not answer.complete:
            self._acknowledge()
            data = await loop.sock_recv(self._socket, 65536)
            self._acknowledge()
            if not data:
                raise ConnectionError
            answer.feed(data)
            if answer.result.body:
                answer.note(loop.time() - sent_s)
        answer.result.status = answer.status

    def _acknowledge(self) -> None:
        if self._quick_ack and self._socket is not None and sys.platform == "linux":
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


async def ask_once(url: str, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
    """One completion on a connection of its own."""
    async with Caller(url) as caller:
        return await caller.ask(path, body, headers)


def _request(path: str, body: dict[str, Any], headers: dict[str, str]) -> bytes:
    data = json.dumps(body).encode()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    fixed = f"host: gateway\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{fixed}{lines}\r\n".encode() + data


class _Reading:
    """An answer as it is read."""

    def __init__(self) -> None:
        self.result = Answer()
        self.complete = False
        self.keep_alive = True
        self.status = LOST
        self._parser: Any = httptools.HttpResponseParser(self)
        self._last_s = 0.0

    def note(self, at_s: float) -> None:
        """Part of the body came at this time."""
        if self.result.first_s is None:
            self.result.first_s = at_s
        else:
            self.result.max_gap_s = max(self.result.max_gap_s, at_s - self._last_s)
        self._last_s = at_s

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.result.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.result.body += body

    def on_message_complete(self) -> None:
        self.keep_alive = self._parser.should_keep_alive()
        self.complete = True
