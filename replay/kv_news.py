"""Carries what the replicas' prefix caches tell to every router that listens: late, lost now and then, told anew after a loss.

It does not know what a router makes of it. One that sees a gap in the numbers asks for everything, which comes the same way.
"""

from collections.abc import Callable, Sequence
from functools import partial

from replay.observation import ObservationRule
from replicas.cache_events import CacheChange, CacheLog
from replicas.engine import Engine
from routers.policy import KvEvent
from routers.router import Router

At = Callable[[float, Callable[[float], None]], None]
"""Calls something at a second of the run."""


class KvNews:
    """`carry` is to be called after whatever may have changed a replica's cache.

    Every (router, replica) has a stream of its own: events are numbered from 1, and a lost one leaves a gap.
    """

    def __init__(self, rule: ObservationRule, seed: int, engines: Sequence[Engine], routers: Sequence[Router], at: At) -> None:
        self._rule, self._seed, self._routers, self._at = rule, seed, routers, at
        self.is_dark: Callable[[int, float], bool] = lambda replica_id, now_s: False
        """Whether nothing gets through from a replica now."""
        self._logs = [CacheLog(engine.profile.block_tokens) for engine in engines]
        self._numbers = [[0] * len(engines) for _ in routers]
        self._gaps = [[False] * len(engines) for _ in routers]
        for engine, log in zip(engines, self._logs, strict=True):
            engine.tell(log)

    def after(self, call: Callable[[float], None]) -> Callable[[float], None]:
        """The call, and then whatever it did to any cache."""

        def call_and_carry(now_s: float) -> None:
            call(now_s)
            for replica_id in range(len(self._logs)):
                self.carry(replica_id, now_s)

        return call_and_carry

    def carry(self, replica_id: int, now_s: float) -> None:
        """Send what has changed at a replica."""
        change = self._logs[replica_id].take()
        if change is None:
            return
        dark = self.is_dark(replica_id, now_s)
        for router in range(len(self._routers)):
            number = self._next(router, replica_id)
            if dark or self._rule.kv_is_lost(self._seed, router, replica_id, number):
                self._gaps[router][replica_id] = True
                continue
            self._deliver(router, replica_id, number, change, now_s)
            if self._gaps[router][replica_id]:
                self._gaps[router][replica_id] = False
                self._at(now_s + self._rule.kv_lag_s, partial(self._tell_all, router, replica_id))

    def _tell_all(self, router: int, replica_id: int, now_s: float) -> None:
        self.carry(replica_id, now_s)
        self._deliver(router, replica_id, self._next(router, replica_id), self._logs[replica_id].everything(), now_s)

    def _deliver(self, router: int, replica_id: int, number: int, change: CacheChange, now_s: float) -> None:
        event = KvEvent(number, change.now_cached, change.cleared)
        self._at(now_s + self._rule.kv_lag_s, partial(self._routers[router].on_kv_event, replica_id, event))

    def _next(self, router: int, replica_id: int) -> int:
        self._numbers[router][replica_id] += 1
        return self._numbers[router][replica_id]
