"""The way to one replica: its address, its open connections, new ones. It does not know why a request goes there."""

import asyncio
import errno
import ssl
import time
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from routers.serve.replica_connection import LOST, Handle, Reader, ReplicaConnection
from routers.serve.settings import Timeouts

_OURS = frozenset((errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM))  # we ran out: no fault of it


@dataclass(frozen=True, slots=True)
class Address:
    """Where a replica listens. `prefix` is put before every path; `bootstrap_port` is SGLang's, of a prefill replica."""

    host: str
    port: int
    secure: bool = False
    prefix: str = ""
    bootstrap_port: int | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.authority}{self.prefix}"

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @staticmethod
    def of(text: str) -> "Address":
        """`URL` or `URL,BOOTSTRAP_PORT`; raises ValueError in one line."""
        url, _, bootstrap = text.partition(",")
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or not plain or not _is_printable(url):
            raise ValueError(f"replica {text!r}: must be http://HOST:PORT or https://HOST:PORT")
        if bootstrap and not (bootstrap.isdecimal() and 0 < int(bootstrap) < 65_536):
            raise ValueError(f"replica {text!r}: the bootstrap port must be a whole number from 1 to 65535")
        secure = parts.scheme == "https"
        default = 443 if secure else 80
        return Address(parts.hostname, port or default, secure, parts.path.rstrip("/"), int(bootstrap) if bootstrap else None)


class Failures(Protocol):
    """Who wants to hear that a replica could not be reached."""

    def on_unreachable(self, replica_id: int) -> None: ...


class Pending:
    """A request that waits for its connection; `drop` works as it does for the connection it may have become."""

    __slots__ = ("connection", "reader")

    def __init__(self, reader: Reader) -> None:
        self.reader: Reader | None = reader
        self.connection: ReplicaConnection | None = None

    def drop(self) -> None:
        self.reader = None
        if self.connection is not None:
            self.connection.drop()

    def discard(self, orphan: bool = False) -> None:
        self.reader = None
        if self.connection is not None:
            self.connection.discard(orphan)

    def pause(self) -> None:
        if self.connection is not None:
            self.connection.pause()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.resume()


class ReplicaLink:
    """A pool of keep-alive connections, the last one used first; unused ones are closed after `pooled_s`."""

    def __init__(self, replica_id: int, address: Address, timeouts: Timeouts, failures: Failures) -> None:
        self.replica_id, self.address = replica_id, address
        self.host, self.prefix = address.authority.encode(), address.prefix.encode()
        self.timeouts, self._failures = timeouts, failures
        self._idle: list[ReplicaConnection] = []
        self._open: set[ReplicaConnection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._ssl = ssl.create_default_context() if address.secure else None
        self._closed = False

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def idle_connections(self) -> int:
        return len(self._idle)

    @property
    def unused(self) -> bool:
        return not self._open and not self._dials

    def send(self, reader: Reader, request: bytes, to_head: bool = False) -> Handle:
        """Send a request over a kept or a new connection. Nothing is heard before this returns."""
        oldest_s = time.monotonic() - self.timeouts.pooled_s
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_since_s > oldest_s and connection.transport is not None and not connection.transport.is_closing():
                connection.start(reader, request, to_head)
                return connection
            connection.drop()
        return self._dial(reader, request, to_head)

    def redial(self, reader: Reader, request: bytes, to_head: bool) -> None:
        """Once more, over a new connection."""
        reader.on_moved(self._dial(reader, request, to_head))

    def keep(self, connection: ReplicaConnection) -> None:
        """A connection is free."""
        if self._closed or connection.transport is None:
            connection.drop()
            return
        connection.idle_since_s = time.monotonic()
        self._idle.append(connection)

    def on_lost(self, connection: ReplicaConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now_s: float) -> None:
        """Close what has been unused for too long."""
        oldest_s = now_s - self.timeouts.pooled_s
        while self._idle and self._idle[0].idle_since_s <= oldest_s:
            self._idle.pop(0).drop()
        for connection in [c for c in self._open if c.is_stuck(now_s)]:
            connection.drop()

    def close(self) -> None:
        """Keep no connection any more; those under way end by themselves."""
        self._closed = True
        while self._idle:
            self._idle.pop().drop()

    def abort(self) -> None:
        """Hang up on everything."""
        self.close()
        for task in self._dials:
            task.cancel()
        for connection in list(self._open):
            connection.drop()

    # Inside

    def _dial(self, reader: Reader, request: bytes, to_head: bool) -> Pending:
        pending = Pending(reader)
        task = asyncio.get_running_loop().create_task(self._connect(pending, request, to_head))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return pending

    async def _connect(self, pending: Pending, request: bytes, to_head: bool) -> None:
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                connection = await self._open_connection()
        except (OSError, TimeoutError, ssl.SSLError) as error:
            reader, pending.reader = pending.reader, None
            if error.errno not in _OURS:
                self._failures.on_unreachable(self.replica_id)
            if reader is not None:
                why = "it did not answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
                reader.on_broken(LOST, f"cannot connect: {why}")
            return
        if connection.transport is not None:
            self._open.add(connection)
        if pending.reader is None:
            self.keep(connection)
        elif connection.transport is None:
            pending.reader.on_broken(LOST, "the connection was lost")
        else:
            pending.connection = connection
            connection.start(pending.reader, request, to_head)

    async def _open_connection(self) -> ReplicaConnection:
        loop = asyncio.get_running_loop()
        connection = ReplicaConnection(self)
        host, port = self.address.host, self.address.port
        await loop.create_connection(lambda: connection, host, port, ssl=self._ssl)
        return connection


def _is_printable(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url
