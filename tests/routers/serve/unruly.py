"""Replicas and clients that behave as badly as they may, by a seeded draw each time. They know the router only by its port."""

import asyncio
import json
import os
import random
from collections import Counter

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
PATIENCE_S = 40.0  # longer than the router's own


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


TOKEN, LAST = _event(b'{"choices":[{"text":" hello"}]}'), _event(b"[DONE]") + b"0\r\n\r\n"
LONG = 4000  # tokens of an answer that does not fit into the sockets' buffers
WHOLE = {TOKEN * 16 + LAST, TOKEN * LONG + LAST}


class UnrulyReplica:
    """Answers most requests well; some late, broken, cut off, or never."""

    def __init__(self, port: int, seed: int) -> None:
        self.port, self._draw = port, random.Random(seed)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port, backlog=1024)

    async def down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while not writer.transport.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                at = head.find(b"content-length:")
                await reader.readexactly(int(head[at + 15 : head.find(b"\r\n", at)]) if at >= 0 else 0)
                if head.startswith(b"get "):
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                else:
                    await self._answer(writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        draw = self._draw.random()
        if draw < 0.70:
            writer.write(HEAD + TOKEN)
            await asyncio.sleep(0.02)
            writer.write(TOKEN * 15 + LAST)
        elif draw < 0.76:
            writer.write(HEAD + TOKEN * LONG + LAST)
        elif draw < 0.80:
            writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}")
        elif draw < 0.84:
            writer.write(HEAD + _event(b'{"error": {"message": "no", "code": 503}}') + LAST)
        elif draw < 0.90:
            bad = (b"garbage\r\n\r\n", b"HTTP/1.1 20", HEAD + b"zz\r\n", HEAD + TOKEN + b"-1\r\n", os.urandom(300))
            writer.write(self._draw.choice(bad))
            await writer.drain()
            writer.transport.abort()
        elif draw < 0.94:
            writer.write(HEAD + TOKEN * 3)
            await writer.drain()
            writer.transport.abort()
        elif draw < 0.97:
            await asyncio.sleep(5)
        else:
            writer.write(HEAD + TOKEN)
            await asyncio.sleep(5)


class UnrulyClients:
    """`ended` counts how each of `requests` whole requests ended, by one word.

    `whole` are the bodies that the replicas send: an answer with another one is `wrong`.
    """

    def __init__(self, port: int, seed: int, whole: set[bytes]) -> None:
        self._port, self._draw, self._whole = port, random.Random(seed), whole
        self.requests = 0
        self.ended: Counter[str] = Counter()
        self.other: Counter[str] = Counter()  # what came of what was no request
        self.wrong: list[bytes] = []

    async def one(self) -> None:
        """One connection of a client drawn at random: most keep to the rules."""
        draw = self._draw.random()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        try:
            async with asyncio.timeout(PATIENCE_S):
                if draw < 0.04:
                    await self._nonsense(reader, writer, self._request()[: self._draw.randrange(1, 150)])
                elif draw < 0.06:
                    await self._nonsense(reader, writer, os.urandom(200))
                elif draw < 0.11:
                    await self._hang_up(writer)
                else:
                    for _ in range(self._draw.randrange(1, 4) if draw < 0.8 else 1):
                        if not await self._ask(reader, writer, slowly=draw > 0.92):
                            break
        finally:
            writer.transport.abort()

    def _request(self) -> bytes:
        asked = {"model": "m", "prompt": "hello " * self._draw.randrange(1, 400), "max_tokens": 16, "stream": True}
        body = json.dumps(asked).encode()
        return b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk\r\ncontent-length: %d\r\n\r\n%b" % (
            len(body),
            body,
        )

    async def _nonsense(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> None:
        """It waits for what the router makes of it, or goes away before that."""
        writer.write(data)
        try:
            async with asyncio.timeout(self._draw.uniform(0, 25)):
                answer = await reader.read()
            self.other["answered" if answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")) else "closed"] += 1
        except ConnectionError:
            self.other["reset"] += 1
        except TimeoutError:
            self.other["left"] += 1

    async def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        writer.write(self._request())
        await asyncio.sleep(self._draw.random() * 0.1)
        self.ended["hung up"] += 1

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slowly: bool) -> bool:
        """Whether the connection is good for another one."""
        self.requests += 1
        got = b""
        try:
            writer.write(self._request())
            got = await reader.readuntil(b"\r\n\r\n")
            if b"transfer-encoding: chunked" in got:
                while not got.endswith(b"0\r\n\r\n"):
                    if slowly:
                        await asyncio.sleep(self._draw.random() * 0.1)
                    data = await reader.read(16384)
                    if not data:
                        raise ConnectionError("cut off")
                    got += data
                    slowly = slowly and len(got) < 200_000
            else:
                at = got.find(b"content-length:")
                got += await reader.readexactly(int(got[at + 15 : got.find(b"\r\n", at)]))
        except (ConnectionError, asyncio.IncompleteReadError):
            self.ended["cut off"] += 1
            return False
        except TimeoutError:
            self.ended["never"] += 1
            raise
        status = got[9:12].decode()
        self.ended[status] += 1
        if status == "200" and got.partition(b"\r\n\r\n")[2] not in self._whole and b'"error"' not in got:
            self.wrong.append(got[:200])
        return b"connection: close" not in got
