"""Many timeouts for little: a hashed wheel of ticks (Varghese and Lauck 1987). It does not know what is due."""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

SPAN = 512


class Timed(Protocol):
    """Something with at most one timeout at a time; `slot` belongs to the wheel, -1 while it is not on it."""

    slot: int

    def on_due(self, now_s: float) -> None:
        """It is no longer on the wheel. May come early where `due_s` lies beyond the wheel's span: then put it on again."""


class Wheel:
    """Adding and removing cost one set operation each. Timeouts come up to a tick late."""

    def __init__(self, tick_s: float = 0.05, clock: Callable[[], float] = time.monotonic) -> None:
        self._tick_s, self._clock = tick_s, clock
        self._slots: list[set[Timed]] = [set() for _ in range(SPAN)]
        self._at = int(clock() / tick_s)  # every tick before this one has been dealt with
        self._handle: asyncio.TimerHandle | None = None

    def add(self, item: Timed, due_s: float) -> None:
        """Call `item.on_due` at `due_s` (of `time.monotonic`), or after the span of the wheel where that is sooner."""
        if item.slot >= 0:
            self._slots[item.slot].discard(item)
        tick = int(due_s / self._tick_s) + 1
        tick = min(max(tick, self._at), self._at + SPAN - 1)
        item.slot = tick % SPAN
        self._slots[item.slot].add(item)

    def remove(self, item: Timed) -> None:
        if item.slot >= 0:
            self._slots[item.slot].discard(item)
            item.slot = -1

    @property
    def span_s(self) -> float:
        """Everything on it is looked at within this time."""
        return SPAN * self._tick_s

    @property
    def size(self) -> int:
        """How many items are on it."""
        return sum(map(len, self._slots))

    def start(self) -> None:
        """Turn, on the running event loop, until `stop`."""
        self._handle = asyncio.get_running_loop().call_later(self._tick_s, self._turn)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def advance(self) -> None:
        """Deal with all ticks up to now."""
        now_s = self._clock()
        last = int(now_s / self._tick_s)
        for tick in range(max(self._at, last - SPAN + 1), last + 1):
            place = tick % SPAN
            self._at = tick + 1
            due = self._slots[place]
            if due:
                self._slots[place] = set()
                for item in due:
                    if item.slot == place:  # another one's timeout may have removed it
                        item.slot = -1
                        item.on_due(now_s)
        self._at = last + 1

    def _turn(self) -> None:
        self._handle = asyncio.get_running_loop().call_later(self._tick_s, self._turn)
        self.advance()
