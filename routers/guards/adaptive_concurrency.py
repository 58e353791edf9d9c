"""`adaptive_concurrency`: a concurrency limit that follows latency, and refuses the rest. It does not know the engine."""

from dataclasses import dataclass

from routers.guard import GuardContext, TryEnd
from routers.limits.envoy_gradient import EnvoyGradient, EnvoyGradientSettings
from routers.limits.gradient2 import Gradient2, Gradient2Settings
from routers.limits.limit_guard import NO_LIMIT, LimitGuard
from routers.parameters import one_of, settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class AdaptiveConcurrencySettings:
    """`algorithm`: gradient2 (Netflix) or envoy. `per`: one limit for the pool, or one for each replica.

    `signal`: ttft or e2e, what counts as latency. Both sources take the whole request; that of a stream is mostly its length,
    so ours is ttft. Limits null = the source's own (20 to 200 from 20; 3 to 1000 from 3). `status` 429 is ours (Envoy: 503).
    """

    algorithm: str = "gradient2"
    per: str = "pool"
    signal: str = "ttft"
    initial: int | None = None
    least: int | None = None
    most: int | None = None
    smoothing: float = 0.2
    queue_size: float = 4.0
    tolerance: float = 1.5
    window_s: float | None = None
    min_interval_s: float = 60.0
    min_requests: int = 50
    percentile: float = 0.5
    buffer: float = 0.25
    status: int = 429

    def __post_init__(self) -> None:
        one_of("algorithm", self.algorithm, ("gradient2", "envoy"))
        one_of("per", self.per, ("pool", "replica"))
        one_of("signal", self.signal, ("ttft", "e2e"))
        within("initial", self.initial, 1)
        within("least", self.least, 1)
        within("most", self.most, self.least or 1)
        within("smoothing", self.smoothing, 0.0, 1.0)
        within("queue_size", self.queue_size, 0.0)
        within("tolerance", self.tolerance, 1.0)
        within("window_s", self.window_s, 0.0)
        within("min_interval_s", self.min_interval_s, 0.001)
        within("min_requests", self.min_requests, 1)
        within("percentile", self.percentile, 0.0, 1.0)
        within("buffer", self.buffer, 0.0)
        within("status", self.status, 400, 599)
        if self.algorithm == "envoy" and self.initial is not None:
            raise ValueError(f"initial = {self.initial!r} is not allowed; envoy starts at its least limit")

    def limiter(self) -> Gradient2 | EnvoyGradient:
        """A new one, at its first limit."""
        if self.algorithm == "gradient2":
            return Gradient2(self._gradient2())
        standard = EnvoyGradientSettings()
        least = standard.least if self.least is None else self.least
        most = max(least, standard.most) if self.most is None else self.most
        window_s = standard.window_s if self.window_s is None else self.window_s
        return EnvoyGradient(
            EnvoyGradientSettings(least, most, self.percentile, self.buffer, self.min_requests, self.min_interval_s, window_s)
        )

    def _gradient2(self) -> Gradient2Settings:
        standard = Gradient2Settings()
        least = min(standard.least, self.most or standard.least) if self.least is None else self.least
        most = max(least, standard.most) if self.most is None else self.most
        initial = min(max(standard.initial, least), most) if self.initial is None else self.initial
        window_s = standard.window_s if self.window_s is None else self.window_s
        return Gradient2Settings(
            initial, least, most, self.smoothing, self.queue_size, self.tolerance, standard.long_window, window_s
        )


class AdaptiveConcurrencyGuard(LimitGuard):
    """Netflix/concurrency-limits `Gradient2Limit`, or Envoy's adaptive concurrency filter (see the two modules).

    Answers that failed are no samples (a fast refusal would look like a fast replica). Known weaknesses: TTFT grows with the
    prompt, so a change of the mix looks like load; Gradient2 never goes below its least limit, 20; Envoy's lets a pool of any
    size have 3 requests while it measures its minimum.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(AdaptiveConcurrencySettings, context.parameters, "adaptive_concurrency")
        first = self._settings.limiter()
        self._pool = first if self._settings.per == "pool" else None
        super().__init__(self._settings.status, NO_LIMIT if self._settings.per == "pool" else first.least)
        self._replicas: frozenset[int] | None = None  # None: as they were at the start
        self._limiters: dict[int, Gradient2 | EnvoyGradient] = {}
        self._sent_s: dict[int, float] = {}  # rid → when its present try was sent
        self._wants_first_token = self._settings.signal == "ttft"

    def limit_of(self, replica_id: int, now_s: float) -> float:
        return NO_LIMIT if self._pool is not None else self._limiter(replica_id).limit(now_s)

    def limit_of_pool(self, now_s: float) -> float:
        return NO_LIMIT if self._pool is None else self._pool.limit(now_s)

    def is_full(self, replica_id: int, now_s: float) -> bool:
        if replica_id not in self._places.full:
            return False  # it holds less than the least limit
        return self._places.at(replica_id) >= self.limit_of(replica_id, now_s)

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        super().on_sent(request, replica_id, now_s)
        self._sent_s.setdefault(request.rid, now_s)  # a pair's decode goes on with its prefill's time

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        if self._wants_first_token:
            self._sample(request.rid, replica_id, now_s)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        if end.ok and not self._wants_first_token:
            self._sample(request.rid, end.replica_id, now_s)
        if not end.ok:
            self._sent_s.pop(request.rid, None)
        super().on_end(request, end, now_s)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._sent_s.pop(request.rid, None)
        super().on_done(request, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._replicas = frozenset(replica_ids)
        self._limiters = {i: limiter for i, limiter in self._limiters.items() if i in self._replicas}

    def _sample(self, rid: int, replica_id: int, now_s: float) -> None:
        sent_s = self._sent_s.get(rid)
        if sent_s is None:
            return
        places = self._places
        if self._pool is not None:
            self._pool.sample(now_s - sent_s, places.sent, now_s)
        elif self._replicas is None or replica_id in self._replicas:
            self._limiter(replica_id).sample(now_s - sent_s, places.at(replica_id), now_s)

    def _limiter(self, replica_id: int) -> Gradient2 | EnvoyGradient:
        limiter = self._limiters.get(replica_id)
        if limiter is None:
            limiter = self._limiters[replica_id] = self._settings.limiter()
        return limiter
