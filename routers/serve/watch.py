"""Watches the replicas from outside: are they there, and what do their gauges say? It decides nothing about requests."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from routers.serve.fetch import FetchFailed, fetch
from routers.serve.gauges import read_gauges
from routers.serve.replica_link import ReplicaLink

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy

log = logging.getLogger("stampede.router")
_GAUGES_TIMEOUT_S = 5.0


class Watch:
    """One replica's health checks and observations. A failed connect counts as a failed check and asks for one at once."""

    def __init__(self, proxy: "Proxy", link: ReplicaLink) -> None:
        self._proxy, self._link = proxy, link
        self.checks = {True: 0, False: 0}
        self.blind = 0  # readings of gauges that failed
        self._failures = self._successes = 0
        self._healthy = False
        self._poked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._probing = False

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._check_for_ever())]
        if self._proxy.settings.observe_s > 0:
            self._tasks.append(loop.create_task(self._observe_for_ever()))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    def on_unreachable(self) -> None:
        """Somebody could not connect."""
        if self._healthy:
            self._count(False)
            self._poked.set()

    def poke(self) -> None:
        """Check now."""
        self._poked.set()

    def probe(self) -> None:
        """Read the gauges once, for the policy's `on_probe`; one at a time."""
        if not self._probing:
            self._probing = True
            task = asyncio.get_running_loop().create_task(self._safely(self._probe()))
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def check(self) -> None:
        """One health check."""
        health = self._proxy.settings.health
        try:
            status, _ = await fetch(self._link, health.path, health.timeout_s)
        except FetchFailed:
            status = 0
        self._count(200 <= status < 300)

    # Inside

    def _count(self, ok: bool) -> None:
        health = self._proxy.settings.health
        self.checks[ok] += 1
        self._successes = self._successes + 1 if ok else 0
        self._failures = 0 if ok else self._failures + 1
        if not self._healthy and self._successes >= health.successes:
            self._set(True)
        elif self._healthy and self._failures >= health.failures:
            self._set(False)

    def _set(self, healthy: bool) -> None:
        self._healthy = healthy
        log.warning("replica %s is %s", self._link.address.url, "healthy" if healthy else "unhealthy")
        self._proxy.set_healthy(self._link.replica_id, healthy)

    async def _safely(self, work: Coroutine[Any, Any, None]) -> None:
        """A fault of a policy must not end the watch."""
        try:
            await work
        except Exception:
            log.exception("watching replica %s", self._link.address.url)

    async def _check_for_ever(self) -> None:
        every_s = self._proxy.settings.health.every_s
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()
            await self._safely(self.check())

    async def _observe_for_ever(self) -> None:
        every_s = self._proxy.settings.observe_s
        while True:
            if self._healthy:
                await self._safely(self._observe())
            await asyncio.sleep(every_s)

    async def _observe(self) -> None:
        began_s = time.monotonic()
        try:
            _, text = await fetch(self._link, "/metrics", _GAUGES_TIMEOUT_S)
            now_s = time.monotonic()
            seen = read_gauges(text, now_s - began_s)
        except FetchFailed:
            seen = None
        if seen is None:
            self.blind += 1  # no answer is no news: the view keeps what it had, which grows older
        else:
            self._proxy.on_observation(self._link.replica_id, seen, began_s)

    async def _probe(self) -> None:
        began_s = time.monotonic()
        try:
            _, text = await fetch(self._link, "/metrics", _GAUGES_TIMEOUT_S)
            seen = read_gauges(text, time.monotonic() - began_s)
        except FetchFailed:
            seen = None
        self._probing = False
        if seen is not None:
            self._proxy.on_probe(self._link.replica_id, seen)
