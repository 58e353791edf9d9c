"""An event loop that rings on time: to some 50 microseconds, where epoll counts whole milliseconds. It knows no server."""

import asyncio
import select
import selectors


def new_event_loop() -> asyncio.AbstractEventLoop:
    """asyncio's own loop; with a finer timer where the system has epoll (elsewhere timers are fine, or it is left as it is)."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()

    class FineSelector(selectors.EpollSelector):
        """Waits in select(2) on the epoll descriptor alone, which counts microseconds, and then asks epoll what has come."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select((self.fileno(),), (), (), timeout)
                timeout = 0
            return super().select(timeout)

    return asyncio.SelectorEventLoop(FineSelector())
