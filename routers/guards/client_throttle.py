"""`client_throttle`: the router refuses by chance what the pool would likely refuse. It does not know the pool's load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, Refuse, TryEnd
from routers.limits.sliding_counts import SlidingCounts
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest
from workloads.draws import purpose_id, uniform

_DRAW = purpose_id("guard-client-throttle")


@dataclass(frozen=True, slots=True)
class ClientThrottleSettings:
    """`k` and `window_s` are the book's. `rejects`: the statuses by which the pool refuses (0 = connection lost); ours."""

    k: float = 2.0
    window_s: float = 120.0
    rejects: tuple[int, ...] = (0, 429, 503)
    status: int = 429

    def __post_init__(self) -> None:
        within("k", self.k, 1.0)
        within("window_s", self.window_s, 0.001)
        within("status", self.status, 400, 599)


class ClientThrottleGuard(Guard):
    """Refuses with p = max(0, (requests − k · accepts) / (requests + 1)) over the last two minutes, throttled ones counted too.

    Site Reliability Engineering (2016), chapter 21 "Handling Overload", equation 21-1. There every client has its own counts;
    here the router stands for all its clients. An accept is a first token, or an end whose status is not one of `rejects`: it
    counts when it comes, not at the end of the answer, or every long stream would look like a refusal. A request is one that
    asks to pass here, a retry too where `retry` stands before. Known weaknesses: what a *later* guard refuses counts as not
    accepted; so does who hangs up before the first token; p stays up for the window after the pool has come back.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(ClientThrottleSettings, context.parameters, "client_throttle")
        self._seed = context.seed
        self._counts = SlidingCounts(self._settings.window_s)
        self._waiting: set[int] = set()  # sent, and not accepted so far
        self._refusal = Refuse(self._settings.status)

    def refusal_chance(self, now_s: float) -> float:
        """The p above."""
        counts = self._counts
        counts.pass_time(now_s)
        return max(0.0, (counts.requests - self._settings.k * counts.accepts) / (counts.requests + 1))

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        chance = self.refusal_chance(now_s)
        self._counts.add(1, 0, now_s)
        if chance > 0 and self._draw(request) < chance:
            return self._refusal
        self._waiting.add(request.rid)
        return SEND

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._accept(request.rid, now_s)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        if end.ok or end.status not in self._settings.rejects:
            self._accept(request.rid, now_s)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._waiting.discard(request.rid)

    def _accept(self, rid: int, now_s: float) -> None:
        if rid in self._waiting:
            self._waiting.remove(rid)
            self._counts.add(0, 1, now_s)

    def _draw(self, request: RoutedRequest) -> float:
        return uniform(self._seed, _DRAW, request.request_id, request.client_attempt, request.router_try)
