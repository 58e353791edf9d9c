"""Connections kept alive between requests, by target. It knows no request."""

import ssl
from itertools import chain

from replay.send.connection import Connection
from replay.send.target import Target
from replay.send.wire import Wire


class Pool:
    """The connection used last is taken first; one that was idle for `keep_alive_s` is closed, before its server closes it."""

    def __init__(self, wire: Wire, keep_alive_s: float) -> None:
        self._wire, self._keep_alive_s = wire, keep_alive_s
        self._idle: dict[Target, list[Connection]] = {}
        self._ending: dict[Connection, None] = {}  # in the order of time
        self._tls: ssl.SSLContext | None = None
        self.opened = 0

    def take(self, target: Target) -> Connection:
        """An idle connection, else a new one; OSError where the system has none left."""
        idle = self._idle.get(target)
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if not self._is_old(connection):
                return connection
            connection.close()
        return self.fresh(target)

    def fresh(self, target: Target) -> Connection:
        """A new connection, which opens while others are served."""
        if target.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        self.opened += 1
        return Connection(self._wire, target, self._tls if target.tls else None)

    def give_back(self, connection: Connection) -> None:
        """Its answer is whole and another request may follow."""
        connection.reader = None
        self._ending.pop(connection, None)
        connection.idle_since_s = self._wire.now_s
        self._idle.setdefault(connection.target, []).append(connection)

    def await_end(self, connection: Connection) -> None:
        """All of its answer that matters is there, but the HTTP message is not whole."""
        connection.idle_since_s = self._wire.now_s
        self._ending[connection] = None

    def sweep(self) -> None:
        """Close what was idle for too long, and messages that did not end in that time."""
        while self._ending and (self._is_old(oldest := next(iter(self._ending))) or oldest.closed):
            del self._ending[oldest]
            oldest.close()
        for target, idle in self._idle.items():
            kept = []
            for connection in idle:
                if self._is_old(connection):
                    connection.close()
                elif not connection.closed:
                    kept.append(connection)
            self._idle[target] = kept

    def close(self) -> None:
        for connection in chain(self._ending, *self._idle.values()):
            connection.close()
        self._ending.clear()
        self._idle.clear()

    def _is_old(self, connection: Connection) -> bool:
        return self._wire.now_s - connection.idle_since_s >= self._keep_alive_s
