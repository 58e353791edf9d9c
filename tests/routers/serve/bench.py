"""A router in front of fake replicas, and a client that writes and reads raw HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import httptools

from flows.serve_router import loop_factory
from replicas.view import Role
from routers.serve.proxy import Named, Proxy
from routers.serve.replica_link import Address
from routers.serve.server import RouterServer
from routers.serve.settings import Health, ServeSettings
from tests.routers.serve.fake_replica import FakeReplica

PATH = "/v1/completions"
ASK = {"model": "m", "prompt": "hello", "max_tokens": 4}
SETTINGS = ServeSettings(port=0, admin_port=0, observe_s=0.0, health=Health(every_s=0.05, timeout_s=0.5))


@dataclass
class Reply:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    whole: bool
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def raw_body(self) -> bytes:
        """As it went over the wire, chunk sizes included."""
        return self.raw.partition(b"\r\n\r\n")[2]

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n == name), None)

    @property
    def error(self) -> str:
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return str(self.json["error"]["message"])


class _Parsed:
    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] = []
        self.body = b""
        self.begun = self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode().lower(), value.decode()))

    def on_headers_complete(self) -> None:
        self.begun = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class Client:
    """One connection to the router."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._rest = b""

    def send(self, method: str, path: str, body: object = None, headers: str = "", version: str = "1.1") -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        length = f"content-length: {len(data)}\r\n" if data or method == "POST" else ""
        self.writer.write(f"{method} {path} HTTP/{version}\r\nhost: router\r\n{length}{headers}\r\n".encode() + data)

    async def ask(
        self, body: object = None, path: str = PATH, method: str = "POST", headers: str = "", version: str = "1.1"
    ) -> Reply:
        self.send(method, path, ASK if body is None and method == "POST" else body, headers, version)
        return await self.reply(method)

    async def reply(self, method: str = "POST") -> Reply:
        """The next answer; `whole` is False where the connection ended before it did."""
        parsed, raw = _Parsed(), b""
        parser: Any = httptools.HttpResponseParser(parsed)
        while not parsed.complete and not (method == "HEAD" and parsed.begun):
            data = self._rest or await self._read()
            self._rest = b""
            if not data:
                length = dict(parsed.headers).get("content-length"), dict(parsed.headers).get("transfer-encoding")
                return Reply(_status(parser, parsed), parsed.headers, parsed.body, parsed.begun and length == (None, None), raw)
            for i in range(len(data)):
                parser.feed_data(data[i : i + 1])
                if parsed.complete or (method == "HEAD" and parsed.begun):
                    self._rest = data[i + 1 :]
                    data = data[: i + 1]
                    break
            raw += data
            if parsed.complete and 100 <= parser.get_status_code() < 200:
                parsed, raw = _Parsed(), b""
                parser = httptools.HttpResponseParser(parsed)
        return Reply(parser.get_status_code(), parsed.headers, parsed.body, True, raw)

    async def read_until(self, mark: bytes) -> bytes:
        """What comes, up to and with `mark`."""
        return await self.reader.readuntil(mark)

    async def gone(self) -> bool:
        """Whether the router hangs up, within 3 s."""
        try:
            async with asyncio.timeout(3):
                await self.reader.read()
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self.writer.transport.abort()

    async def _read(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except ConnectionError:
            return b""


def _status(parser: Any, parsed: _Parsed) -> int:
    return parser.get_status_code() if parsed.begun else 0


@dataclass
class Bench:
    """What a test works with."""

    proxy: Proxy
    server: RouterServer
    replicas: list[FakeReplica]
    stack: AsyncExitStack

    async def client(self, limit: int = 1 << 20) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.port, limit=limit))
        self.stack.callback(client.close)
        return client

    async def ask(self, body: object = None, **how: Any) -> Reply:
        """One request on a connection of its own."""
        return await (await self.client()).ask(body, **how)

    async def admin(self, method: str, path: str, body: object = None) -> Reply:
        assert self.server.admin_port is not None
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.admin_port))
        self.stack.callback(client.close)
        return await client.ask(body, path=path, method=method)

    async def metrics(self) -> dict[str, float]:
        text = (await self.ask(path="/metrics", method="GET")).body.decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    @property
    def in_flight(self) -> list[int]:
        return [view.in_flight for view in self.proxy.router.views]


Test = Callable[[Bench], Awaitable[None]]


def run(
    test: Test,
    *replicas: FakeReplica,
    policy: Named = ("round_robin", {}),
    guards: Sequence[Named] = (),
    roles: Sequence[Role] = (),
    addresses: Sequence[str] = (),
    **settings: Any,
) -> None:
    """Run a test against a fresh router in front of these replicas; afterwards nothing may be left inside it."""

    async def go() -> None:
        async with asyncio.timeout(20), AsyncExitStack() as stack:
            for replica in replicas:
                await stack.enter_async_context(replica)
            urls = addresses or [replica.url for replica in replicas]
            each: Sequence[Role] = roles or ["both"] * len(urls)
            pool = [(Address.of(url), role) for url, role in zip(urls, each, strict=True)]
            proxy = Proxy(policy, guards, pool, replace(SETTINGS, **settings), 1)
            server = await stack.enter_async_context(RouterServer(proxy))
            await test(Bench(proxy, server, list(replicas), stack))
            await settled(proxy)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(go())


async def settled(proxy: Proxy) -> None:
    """Every count has returned to zero once the clients' connections are gone."""
    for connection in list(proxy.connections):
        connection.abort()
    router = proxy.router
    await until(lambda: not (proxy.relays or router.open_requests or router.held_requests or proxy.buffered_bytes))
    assert [(v.in_flight, v.in_flight_tokens) for v in router.views] == [(0, 0)] * len(router.views)


async def until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)
