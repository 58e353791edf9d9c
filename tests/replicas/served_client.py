"""A small HTTP client for tests of the served replica: what goes out is written out, what comes back is taken apart."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httptools

from replicas.profile import EngineProfile
from replicas.served import ServedReplica, Serving

_FRONT_END = ("frontend_s", "frontend_s_per_token", "frontend_chunk_s", "frontend_jitter_s")
FAST: dict[str, Any] = {**dict.fromkeys(_FRONT_END, 0.0), "cancel_lag_s": 0.0}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """The events of a stream; the last one is the string `[DONE]`."""
        data = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [d if d == "[DONE]" else json.loads(d) for d in data]


class Client:
    """One connection, kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._rest = b""

    async def ask(self, method: str, path: str, body: object = None, headers: str = "") -> Reply:
        self.send(method, path, body, headers)
        return await self.reply()

    def send(self, method: str, path: str, body: object = None, headers: str = "") -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + data)

    async def reply(self) -> Reply:
        """The next answer; of several that came in one piece, the others are kept."""
        parsed = _Parsed()
        parser = httptools.HttpResponseParser(parsed)
        while not parsed.complete:
            data, self._rest = self._rest or await self.reader.read(65536), b""
            if not data:
                break
            for i in range(len(data)):  # byte by byte, so as not to take from the answer behind it
                parser.feed_data(data[i : i + 1])
                if parsed.complete:
                    self._rest = data[i + 1 :]
                    break
        return Reply(parser.get_status_code(), parsed.headers, parsed.body)

    async def gone(self) -> bool:
        """Whether the server hangs up, within 2 s."""
        try:
            async with asyncio.timeout(2):
                return await self.reader.read() == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        self.writer.close()


class _Parsed:
    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def profile(**changes: Any) -> EngineProfile:
    return EngineProfile.load("h100-vllm-llama8b").with_changes({**FAST, **changes})


@asynccontextmanager
async def connected(replica: ServedReplica) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", replica.port))
    try:
        yield client
    finally:
        client.close()


def serving(test: Callable[[ServedReplica, Client], Awaitable[None]], a_profile: EngineProfile | None = None, **how: Any) -> None:
    """Run a test against a fresh replica, with one connection to it."""

    async def go() -> None:
        async with asyncio.timeout(30):
            loop = asyncio.get_running_loop()
            async with (
                ServedReplica(a_profile or profile(), loop.time(), Serving(**how)) as replica,
                connected(replica) as client,
            ):
                await test(replica, client)

    asyncio.run(go())


async def until(holds: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.005)
