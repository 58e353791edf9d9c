"""Waits for sockets and for the clock, to some ten microseconds. It knows no protocol.

epoll's own timeout counts milliseconds, and so do the timers of libuv: the last of a wait is spent in select(2) on the epoll
descriptor alone, which counts microseconds.
"""

import ctypes
import select
import time
from collections.abc import Callable

READ, WRITE = select.EPOLLIN | select.EPOLLRDHUP, select.EPOLLOUT
_MOST_EVENTS = 16  # what is handled before the clock is looked at again
_MOST_WAIT_S = 1.0
_MILLISECONDS_S = 0.0025  # so long a wait is epoll's
_WAITED_S = 0.00005  # a call that took so long has waited: nothing was there before
_MOST_LATE_S = 0.0001  # what is made up for, and spun, at most
_PR_SET_TIMERSLACK = 29


class Wire:
    """Calls a descriptor's handler with its events.

    `now_s` (CLOCK_MONOTONIC) is when the present events were there; `read_lag_s`: how long they had been there already, at most.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._only = (self._epoll.fileno(),)
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._late_s = 0.0  # how late the system wakes us, lately
        self._going = True
        self._more = False  # whether more events may be there than were handled
        self.now_s = self._clear_s = time.monotonic()
        self.read_lag_s = 0.0

    def watch(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """No more calls for a descriptor that is about to be closed."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def serve(self, until_s: float) -> None:
        """Handle what comes until `until_s` (a past time: only some of what is there), or until a handler calls `call_off`."""
        self._going = True
        while self._going:
            asked_s = time.monotonic()
            ready = self._ready(until_s, asked_s)
            self.now_s = time.monotonic()
            # what was there before we asked has waited since we last took all there was, at most
            self.read_lag_s = 0.0 if self.now_s - asked_s > _WAITED_S else self.now_s - self._clear_s
            for fd, events in ready:
                handler = self._handlers.get(fd)
                if handler is not None:  # closed by a handler just now
                    handler(events)
            self._more = len(ready) == _MOST_EVENTS
            if not self._more:
                self._clear_s = self.now_s
            if self.now_s >= until_s:
                return

    def call_off(self) -> None:
        """What is waited for has changed: `serve` returns."""
        self._going = False

    def _ready(self, until_s: float, now_s: float) -> list[tuple[int, int]]:
        """Some of what has come, else what comes until `until_s` at the latest, or nothing so far."""
        wait_s = 0.0 if self._more else until_s - now_s
        if wait_s >= _MILLISECONDS_S:
            whole = int(min(wait_s, _MOST_WAIT_S) * 1000) - 1
            return self._epoll.poll((whole - 0.5) / 1000, _MOST_EVENTS)  # it rounds up
        if wait_s > 0 and not self._wait(until_s, wait_s):
            return []
        return self._epoll.poll(0, _MOST_EVENTS)

    def _wait(self, until_s: float, wait_s: float) -> bool:
        """True when something has come; else it is `until_s`, or not yet.

        The system wakes us late by a similar time again and again: so it is asked to by that much earlier, and the rest is spun.
        """
        asked_s = wait_s - self._late_s
        if asked_s > 0 and select.select(self._only, (), (), asked_s)[0]:
            return True
        now_s = time.monotonic()
        if asked_s > 0:
            late_s = now_s - (until_s - wait_s + asked_s)
            self._late_s += 0.1 * (min(late_s, _MOST_LATE_S) - self._late_s)
        if until_s - now_s <= _MOST_LATE_S:
            while time.monotonic() < until_s:
                pass
        return False

    def close(self) -> None:
        self._epoll.close()


def wake_on_time() -> None:
    """Ask Linux to wake this thread without its usual slack of 50 µs (prctl(2)); without effect elsewhere."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
