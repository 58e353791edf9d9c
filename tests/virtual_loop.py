"""An asyncio loop whose clock jumps over waiting: real sockets on loopback, no real time. It knows no test."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")


class _Jumping(selectors.DefaultSelector):
    """Never sleeps: when no socket is ready it moves the clock on by what the loop would have slept."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            return super().select(None)
        self.skipped_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only where all tasks wait; what they compute costs none."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.skipped_s


def run_virtual(main: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run` on such a loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
