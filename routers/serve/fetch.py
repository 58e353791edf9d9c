"""The router's own small GETs to a replica: health, gauges. It does not know what they are for."""

import asyncio

from routers.serve.body_end import ChunkedEnd, payload_of
from routers.serve.replica_connection import Handle
from routers.serve.replica_link import ReplicaLink
from routers.serve.response_head import ResponseHead

_MOST_BYTES = 16 << 20


class FetchFailed(Exception):
    """No whole answer in time."""


class _Answer:
    def __init__(self) -> None:
        self.done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.handle: Handle | None = None
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._bytes = 0

    def on_head(self, head: ResponseHead) -> None:
        self._head = head

    def on_data(self, data: bytes) -> None:
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self.fail("an answer without end")
            if self.handle is not None:
                self.handle.drop()
            return
        self._parts.append(data)

    def on_end(self) -> None:
        assert self._head is not None
        body = b"".join(self._parts)
        if isinstance(self._head.body, ChunkedEnd):
            body = payload_of(body)
        if not self.done.done():
            self.done.set_result((self._head.status, body))

    def on_broken(self, status: int, error: str) -> None:
        self.fail(error)

    def on_moved(self, handle: Handle) -> None:
        self.handle = handle

    def fail(self, error: str) -> None:
        if not self.done.done():
            self.done.set_exception(FetchFailed(error))


async def fetch(link: ReplicaLink, path: str, timeout_s: float) -> tuple[int, bytes]:
    """(status, body) of `GET path`; raises FetchFailed."""
    answer = _Answer()
    head = f"GET {link.address.prefix}{path} HTTP/1.1\r\nhost: {link.address.authority}\r\naccept: */*\r\n\r\n"
    answer.handle = link.send(answer, head.encode())
    try:
        async with asyncio.timeout(timeout_s):
            return await answer.done
    except TimeoutError:
        raise FetchFailed(f"no answer in {timeout_s:g} s") from None
    finally:
        if (not answer.done.done() or answer.done.cancelled()) and answer.handle is not None:
            answer.handle.drop()
