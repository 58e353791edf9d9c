"""`breaker`: hides a replica after a row of failures, and lets it back by steps. It does not know why it failed."""

from dataclasses import dataclass
from math import inf

from routers.guard import Guard, GuardContext, TryEnd
from routers.limits.places import Places
from routers.parameters import one_of, settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Defaults of both wheels: 10 failures in a row, 60 s open, 3 successes to close.

    `count_429`: a 429 is a failure. `on_4xx`: what the other 4xx are; a failure (sgl-model-gateway's `router.rs`: whatever is
    not 2xx is, 429 too), a success (vllm-project/router: all 4xx are, so set `count_429` false with it), or ignored (ours: a bad
    request says nothing of the replica; but a 408 is a failure then). `half_open_tries`: the most tries under way at a replica
    that is half-open; null = no limit, as both wheels.
    """

    failures: int = 10
    open_s: float = 60.0
    successes: int = 3
    count_429: bool = True
    on_4xx: str = "ignored"
    half_open_tries: int | None = None

    def __post_init__(self) -> None:
        one_of("on_4xx", self.on_4xx, ("ignored", "failure", "success"))
        within("half_open_tries", self.half_open_tries, 1)
        within("failures", self.failures, 1)
        within("open_s", self.open_s, 0.001)
        within("successes", self.successes, 1)


class BreakerGuard(Guard):
    """One circuit a replica, as sgl-model-gateway's `core/circuit_breaker.rs` (SMG's documentation gives the wheels' defaults):

    closed → open after `failures` in a row; open → half-open after `open_s`; half-open → closed after `successes` in a row,
    → open on one failure. Half-open admits everything. Ends that come while it is open (of older tries) change nothing.
    A lost connection (0) and 5xx are failures. Known weakness: a burst that the whole pool refuses opens every circuit, and a
    healthy pool is locked out for `open_s`; there is no limit on how many may be open (`ejection` has one).
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(BreakerSettings, context.parameters, "breaker")
        self._failures: dict[int, int] = {}
        self._successes: dict[int, int] = {}
        self._open_until_s: dict[int, float] = {}
        self._next_s = inf  # when the first of them is half-open
        self._half_open: set[int] = set()
        self._pool: frozenset[int] | None = None  # None: as it was at the start
        self._places = Places() if self._settings.half_open_tries is not None else None

    def state_of(self, replica_id: int, now_s: float) -> str:
        """closed, open or half-open."""
        self._pass_time(now_s)
        if replica_id in self._half_open:
            return "half-open"
        return "open" if replica_id in self._open_until_s else "closed"

    def admits(self, replica_id: int, now_s: float) -> bool:
        self._pass_time(now_s)
        if replica_id in self._open_until_s:
            return False
        most = self._settings.half_open_tries
        return most is None or self._places is None or replica_id not in self._half_open or self._places.at(replica_id) < most

    def hides(self, now_s: float) -> bool:
        return bool(self._open_until_s or (self._half_open and self._places is not None))

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        if self._places is not None:
            self._places.send(request.rid, replica_id)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        if self._places is not None:
            self._places.leave(request.rid)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._pass_time(now_s)
        if self._places is not None:
            self._places.end(request.rid, end.replica_id)
        if end.replica_id in self._open_until_s or (self._pool is not None and end.replica_id not in self._pool):
            return
        verdict = "success" if end.ok else self._verdict(end.status)
        if verdict == "success":
            self._count_success(end.replica_id)
        elif verdict == "failure":
            self._count_failure(end.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._pool = frozenset(replica_ids)
        for known in (self._failures, self._successes, self._open_until_s):
            for replica_id in [i for i in known if i not in replica_ids]:
                del known[replica_id]
        self._half_open.intersection_update(replica_ids)
        self._next_s = min(self._open_until_s.values(), default=inf)

    def next_wake_s(self) -> float:
        return self._next_s

    def on_wake(self, now_s: float) -> None:
        self._pass_time(now_s)

    def _verdict(self, status: int) -> str:
        if not 400 <= status < 500:
            return "failure"
        if status == 429 and self._settings.count_429:
            return "failure"
        if status == 408 and self._settings.on_4xx == "ignored":
            return "failure"
        return self._settings.on_4xx

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
            self._next_s = min(self._next_s, now_s + self._settings.open_s)

    def _pass_time(self, now_s: float) -> None:
        if now_s < self._next_s:
            return
        for replica_id in [i for i, until_s in self._open_until_s.items() if until_s <= now_s]:
            del self._open_until_s[replica_id]
            self._half_open.add(replica_id)
            self._failures[replica_id] = self._successes[replica_id] = 0
        self._next_s = min(self._open_until_s.values(), default=inf)
