"""`breaker`: hides a replica after a row of failures, and lets it back by steps. It does not know why it failed."""

from dataclasses import dataclass

from routers.guard import Guard, GuardContext, TryEnd
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Defaults of both wheels: 10 failures in a row, 60 s open, 3 successes to close. `count_429`: a 429 is a failure."""

    failures: int = 10
    open_s: float = 60.0
    successes: int = 3
    count_429: bool = True

    def __post_init__(self) -> None:
        within("failures", self.failures, 1)
        within("open_s", self.open_s, 0.001)
        within("successes", self.successes, 1)


class BreakerGuard(Guard):
    """One circuit a replica, as sgl-model-gateway's `circuit_breaker.rs`:

    closed → open after `failures` in a row; open → half-open after `open_s`; half-open → closed after `successes` in a row,
    → open on one failure. Half-open admits everything. Ends that come while it is open (of older tries) change nothing.
    A failure is a lost connection (0), 408, 5xx and, if counted, 429; other errors are the request's own and change nothing.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(BreakerSettings, context.parameters, "breaker")
        self._failures: dict[int, int] = {}
        self._successes: dict[int, int] = {}
        self._open_until_s: dict[int, float] = {}
        self._half_open: set[int] = set()

    def state_of(self, replica_id: int, now_s: float) -> str:
        """closed, open or half-open."""
        self._pass_time(now_s)
        if replica_id in self._half_open:
            return "half-open"
        return "open" if replica_id in self._open_until_s else "closed"

    def admits(self, replica_id: int, now_s: float) -> bool:
        return now_s >= self._open_until_s.get(replica_id, now_s)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._pass_time(now_s)
        if end.replica_id in self._open_until_s:
            return
        if end.ok:
            self._count_success(end.replica_id)
        elif self._is_failure(end.status):
            self._count_failure(end.replica_id, now_s)

    def next_wake_s(self) -> float:
        return min(self._open_until_s.values()) if self._open_until_s else float("inf")

    def on_wake(self, now_s: float) -> None:
        self._pass_time(now_s)

    def _is_failure(self, status: int) -> bool:
        return status in (0, 408) or status >= 500 or (status == 429 and self._settings.count_429)

    def _count_success(self, replica_id: int) -> None:
        self._failures[replica_id] = 0
        if replica_id not in self._half_open:
            return
        self._successes[replica_id] = self._successes.get(replica_id, 0) + 1
        if self._successes[replica_id] >= self._settings.successes:
            self._half_open.discard(replica_id)

    def _count_failure(self, replica_id: int, now_s: float) -> None:
        self._failures[replica_id] = self._failures.get(replica_id, 0) + 1
        if replica_id in self._half_open or self._failures[replica_id] >= self._settings.failures:
            self._half_open.discard(replica_id)
            self._open_until_s[replica_id] = now_s + self._settings.open_s

    def _pass_time(self, now_s: float) -> None:
        if not self._open_until_s:
            return
        for replica_id in [i for i, until_s in self._open_until_s.items() if until_s <= now_s]:
            del self._open_until_s[replica_id]
            self._half_open.add(replica_id)
            self._failures[replica_id] = self._successes[replica_id] = 0
