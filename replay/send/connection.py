"""One TCP (or TLS) connection to a target: opens, writes all of a request, hands over what comes. It reads no HTTP."""

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from replay.send.target import Target
from replay.send.wire import READ, WRITE, Wire

_READ_BYTES = 65_536
_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Reader(Protocol):
    """Who is served by a connection."""

    def on_data(self, data: bytes) -> None: ...

    def on_lost(self, what: str, error: OSError | None) -> None:
        """The connection is over and closed: `what` failed, or (no error) the peer closed it."""


class Connection:
    """`reader` None: nobody is waiting, and whatever happens then closes it. `uses` counts its requests.

    Raises OSError where the system has no socket left.
    """

    __slots__ = (
        *("_events", "_fd", "_opening", "_out", "_recv", "_secure", "_sock", "_tls", "_wire"),
        *("idle_since_s", "reader", "target", "uses"),
    )

    def __init__(self, wire: Wire, target: Target, tls: ssl.SSLContext | None) -> None:
        self.target = target
        self.reader: Reader | None = None
        self.uses = 0
        self.idle_since_s = 0.0
        self._wire, self._tls, self._opening = wire, tls, True
        self._out = b""
        self._secure: ssl.SSLSocket | None = None
        self._sock = sock = socket.socket(target.family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(target.address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            raise OSError(code, os.strerror(code))
        self._recv: Callable[[int], bytes] = sock.recv
        self._fd, self._events = sock.fileno(), WRITE
        wire.watch(self._fd, WRITE, self._on_ready)

    @property
    def unsent(self) -> bool:
        """Whether some of a request has not gone out (the answer came before)."""
        return bool(self._out)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def send(self, data: bytes) -> None:
        """Write a request, now or as soon as the connection takes it."""
        self.uses += 1
        self._out = data
        if not self._opening:
            self._write()

    def close(self) -> None:
        """Hang up; nobody is told."""
        self.reader = None
        if self._fd >= 0:
            self._wire.forget(self._fd)  # and with it the only cycle
            self._fd = -1
            self._sock.close()

    # Inside ------------------------------------------------------------------------------------------------------------

    def _on_ready(self, events: int) -> None:
        if self._opening:
            self._open()
            return
        if events & ~WRITE:
            self._read()  # first: who refuses a long request may answer before it is out, and close
        if self._out and events & WRITE and self._fd >= 0:
            self._write()

    def _read(self) -> None:
        more = True
        while more:
            try:
                data = self._recv(_READ_BYTES)
            except _AGAIN:
                return
            except OSError as error:
                self._lose("stream", error)
                return
            reader = self.reader
            if not data or reader is None:
                self._lose("stream", None)
                return
            reader.on_data(data)
            more = self._secure is not None and self._fd >= 0 and self._secure.pending() > 0

    def _write(self) -> None:
        try:
            sent = self._sock.send(self._out)
        except _AGAIN:
            sent = 0
        except OSError as error:
            self._lose("send", error)
            return
        self._out = self._out[sent:]
        self._listen(READ | WRITE if self._out else READ)

    def _open(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lose("connect", OSError(code, os.strerror(code)))
            return
        if self._tls is not None and not self._shake_hands(self._tls):
            return
        self._opening = False
        self._write()

    def _shake_hands(self, tls: ssl.SSLContext) -> bool:
        """True when TLS is up."""
        try:
            if self._secure is None:
                self._sock = self._secure = tls.wrap_socket(
                    self._sock, server_hostname=self.target.host, do_handshake_on_connect=False
                )
                self._recv = self._secure.recv
            self._secure.do_handshake()
        except ssl.SSLWantReadError:
            self._listen(READ)
        except ssl.SSLWantWriteError:
            self._listen(WRITE)
        except OSError as error:
            self._lose("connect", error)
        else:
            return True
        return False

    def _listen(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._wire.change(self._fd, events)

    def _lose(self, what: str, error: OSError | None) -> None:
        reader = self.reader
        self.close()
        if reader is not None:
            reader.on_lost(what, error)
