"""A replica that serves nothing: it answers as told, keeps every request it got, and knows no tokens and no queue.

Gateways are tried against it, where a real engine would hide what the gateway does.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

import httptools

from routers.gateways.stub_answers import about, event, frame, piece, usage, usage_piece

COMPLETIONS = ("/v1/completions", "/v1/chat/completions", "/generate")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a stub answers a completion: an HTTP `status`; after `first_s` its first chunk, then one each `gap_s`.

    `headers_first`: the head goes out at once, as uvicorn sends it, and not with the first chunk. `knows_load`: it answers
    SGLang's `/get_load` (vLLM has no such path) with as many requests as it has open.
    """

    status: int = 200
    first_s: float = 0.0
    gap_s: float = 0.0
    chunks: int = 4
    headers_first: bool = False
    knows_load: bool = False


@dataclass(slots=True)
class Asked:
    """One completion request as it reached the stub; `hung_up` once the caller has gone before the answer ended."""

    path: str
    headers: dict[str, str]
    body: bytes
    at_s: float
    hung_up: bool = False
    done: bool = False

    @property
    def json(self) -> dict[str, Any]:
        return cast(dict[str, Any], json.loads(self.body))


@dataclass
class StubReplica:
    """Listens on a free port of this machine while the context lasts; `asked` grows with each completion request."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    asked: list[Asked] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set["_Connection"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def in_flight(self) -> int:
        return sum(not (a.done or a.hung_up) for a in self.asked)

    @property
    def told_load(self) -> int | None:
        return self.in_flight if self.behaviour.knows_load else None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._open):
            connection.hang_up()
        await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    """One caller; requests one after the other (gateways do not pipeline)."""

    def __init__(self, stub: StubReplica) -> None:
        self._stub = stub
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpRequestParser(self)
        self._asked: Asked | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reset()

    def _reset(self) -> None:
        self._url, self._headers, self._body = b"", dict[str, str](), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._stub._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._stub._open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is not None and not self._asked.done:
            self._asked.hung_up = True

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.hang_up()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.decode("latin-1").partition("?")[0]
        self._stub.paths[path] = self._stub.paths.get(path, 0) + 1
        if path in COMPLETIONS:
            self._asked = Asked(path, self._headers, self._body, time.monotonic())
            self._stub.asked.append(self._asked)
            self._answer(self._asked)
        else:
            self._send(*about(path, self._stub.told_load))
        self._reset()

    def _answer(self, asked: Asked) -> None:
        how = self._stub.behaviour
        if how.status != 200:
            asked.done = True
            self._send(how.status, {"error": {"message": "told to", "type": "stub", "code": how.status}})
        elif asked.json.get("stream"):
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            if how.headers_first:
                self._write(head)
            self._later(how.first_s, lambda: self._stream(asked, how, 0, b"" if how.headers_first else head))
        else:
            self._later(how.first_s + how.gap_s * (how.chunks - 1), lambda: self._whole(asked, how))

    def _later(self, delay_s: float, do: Callable[[], None]) -> None:
        if delay_s > 0:
            self._timer = asyncio.get_running_loop().call_later(delay_s, do)
        else:
            do()

    def _stream(self, asked: Asked, how: Behaviour, sent: int, head: bytes = b"") -> None:
        last = sent + 1 == how.chunks
        data = head + event(piece(asked.path, True, 1, "length" if last else None))
        if last:
            data += event(usage_piece(how.chunks)) + frame(b"data: [DONE]\n\n") + b"0\r\n\r\n"
            asked.done = True
        self._write(data)
        if not last:
            self._later(how.gap_s, lambda: self._stream(asked, how, sent + 1))

    def _whole(self, asked: Asked, how: Behaviour) -> None:
        asked.done = True
        answer = {**piece(asked.path, False, how.chunks, "length"), "usage": usage(how.chunks)}
        if (asked.json.get("kv_transfer_params") or {}).get("do_remote_decode"):  # vLLM's prefill tells where its blocks are
            answer["kv_transfer_params"] = {"do_remote_prefill": True, "remote_engine_id": str(self._stub.port)}
        self._send(200, answer)

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self._write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(data), data)
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
