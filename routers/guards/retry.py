"""`retry`: the router tries again, on the same replica or another. It does not know the client's own retries."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, Retry, TryEnd
from routers.parameters import one_of, settings_of, within
from routers.policy import RoutedRequest
from workloads.draws import purpose_id, uniform

_JITTER = purpose_id("guard-retry-jitter")
_NOBODY: frozenset[int] = frozenset()
_NEARLY_ONE = 1 - 1e-9  # ten successes of 0.1 make a token


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Defaults are those of sglang-router and vllm-router: 5 attempts in all, 50 ms · 1.5^n ± 20%, the replica chosen anew.

    `exclude`: none (the policy may choose the failed replica again), last (not that one), tried (none that failed before).
    `retry_on` holds statuses, 0 = connection lost. `budget` is the largest share of retries among the requests in the router,
    but `budget_floor` retries are always allowed (Envoy's retry budget: 0.2 and 3); null = no budget. `bucket`: a token bucket of
    that size, full at first; a success adds `bucket_gain`, a retry takes 1 (Brooker, "Fixing retries with token buckets and
    circuit breakers", 2022: 0.1 a success; 5 tokens in his `simulator_example/retry_sim`, per client). Both may be set.
    """

    max_attempts: int = 5
    backoff_s: float = 0.05
    backoff_factor: float = 1.5
    backoff_max_s: float = 30.0
    jitter: float = 0.2
    exclude: str = "none"
    retry_on: tuple[int, ...] = (0, 408, 429, 500, 502, 503, 504)
    budget: float | None = None
    budget_floor: int = 3
    bucket: float | None = None
    bucket_gain: float = 0.1

    def __post_init__(self) -> None:
        one_of("exclude", self.exclude, ("none", "last", "tried"))
        within("max_attempts", self.max_attempts, 1)
        within("backoff_s", self.backoff_s, 0.0)
        within("backoff_factor", self.backoff_factor, 1.0)
        within("backoff_max_s", self.backoff_max_s, 0.0)
        within("jitter", self.jitter, 0.0, 1.0)
        within("budget", self.budget, 0.0)
        within("budget_floor", self.budget_floor, 0)
        within("bucket", self.bucket, 1.0)
        within("bucket_gain", self.bucket_gain, 0.0)


class RetryGuard(Guard):
    """Asks for a retry while attempts, budget and the request's deadline allow it; never once a token was relayed.

    A retry counts against the budget from the moment it is asked for, backoff included, until its own end. A token that was
    taken is spent, even if the client hangs up before the retry is sent.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(RetrySettings, context.parameters, "retry")
        self._seed = context.seed
        self._inside: set[int] = set()
        self._retrying: set[int] = set()
        self._failed: dict[int, frozenset[int]] = {}
        self._tokens = self._settings.bucket
        self._gained: set[int] = set()

    @property
    def tokens(self) -> float | None:
        """What is left in the bucket, where there is one."""
        return self._tokens

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        self._inside.add(request.rid)
        return SEND

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> Retry | None:
        settings = self._settings
        if end.ok:
            self._gain(request.rid)
            return None
        self._retrying.discard(request.rid)
        if end.streaming or end.status not in settings.retry_on or end.router_try >= settings.max_attempts:
            return None
        at_s = now_s + self.backoff_before(end.router_try + 1, request)
        if at_s >= request.deadline_s or not self._affordable() or not self._take_token():
            return None
        self._retrying.add(request.rid)
        return Retry(at_s, self._exclude(request.rid, end.replica_id))

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._inside.discard(request.rid)
        self._retrying.discard(request.rid)
        self._failed.pop(request.rid, None)
        self._gained.discard(request.rid)

    def backoff_before(self, router_try: int, request: RoutedRequest) -> float:
        """Seconds to wait before try 2, 3, …; the jitter is keyed by the request's try."""
        settings = self._settings
        wait_s = min(settings.backoff_max_s, settings.backoff_s * settings.backoff_factor ** (router_try - 2))
        draw = uniform(self._seed, _JITTER, request.request_id, request.client_attempt, router_try)
        return wait_s * (1 + settings.jitter * (2 * draw - 1))

    def _affordable(self) -> bool:
        budget = self._settings.budget
        return budget is None or len(self._retrying) < max(self._settings.budget_floor, budget * len(self._inside))

    def _gain(self, rid: int) -> None:
        """Once a request: both tries of a pair succeed."""
        if self._tokens is not None and self._settings.bucket is not None and rid not in self._gained:
            self._gained.add(rid)
            self._tokens = min(self._settings.bucket, self._tokens + self._settings.bucket_gain)

    def _take_token(self) -> bool:
        if self._tokens is None:
            return True
        if self._tokens < _NEARLY_ONE:
            return False
        self._tokens -= 1
        return True

    def _exclude(self, rid: int, replica_id: int) -> frozenset[int]:
        if self._settings.exclude == "none":
            return _NOBODY
        if self._settings.exclude == "last":
            return frozenset((replica_id,))
        failed = self._failed[rid] = self._failed.get(rid, _NOBODY) | {replica_id}
        return failed
