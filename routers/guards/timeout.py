"""`timeout`: the router gives a try up that takes too long; a retry may follow. It does not know the client's own patience."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from routers.guard import GiveUp, Guard, GuardContext, TryEnd
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class TimeoutSettings:
    """Seconds from when a try was sent to its first token, and to its end; null = never.

    `orphan`: the replica works on for nobody, else the try is aborted. 1800 s in all is sglang-router's
    `--request-timeout-secs`; 504 is Envoy's answer to a try that timed out.
    """

    first_token_s: float | None = None
    total_s: float | None = 1800.0
    orphan: bool = False
    status: int = 504

    def __post_init__(self) -> None:
        within("first_token_s", self.first_token_s, 0.001)
        within("total_s", self.total_s, 0.001)
        within("status", self.status, 400, 599)


class TimeoutGuard(Guard):
    """As Envoy's per-try timeouts. To all guards and the policy a given-up try ended with `status`: `retry` and `breaker` count
    it wherever they stand. Both tries of a pair have one time. Who hangs up first was the client's doing. All O(1), and
    nothing is kept of who has ended.

    Known weakness: with `orphan` each retry adds work to an overloaded pool; without, what was prefilled is thrown away.
    """

    def __init__(self, context: GuardContext) -> None:
        self._settings = settings_of(TimeoutSettings, context.parameters, "timeout")
        self._sent: set[int] = set()
        self._first_token: OrderedDict[int, float] = OrderedDict()  # rid → given up then, in order, as all wait as long
        self._total: OrderedDict[int, float] = OrderedDict()

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        if request.rid in self._sent:
            return  # a pair's decode
        self._sent.add(request.rid)
        if self._settings.first_token_s is not None:
            self._first_token[request.rid] = now_s + self._settings.first_token_s
        if self._settings.total_s is not None:
            self._total[request.rid] = now_s + self._settings.total_s

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._first_token.pop(request.rid, None)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        if not end.ok:
            self._forget(request.rid)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._forget(request.rid)

    def give_up(self, now_s: float) -> Sequence[GiveUp]:
        given_up = []
        for waiting in (self._first_token, self._total):
            while waiting and (first := next(iter(waiting.items())))[1] <= now_s:
                self._forget(first[0])
                given_up.append(GiveUp(first[0], self._settings.orphan, self._settings.status))
        return given_up

    def next_wake_s(self) -> float:
        return min(next(iter(self._first_token.values()), float("inf")), next(iter(self._total.values()), float("inf")))

    def _forget(self, rid: int) -> None:
        self._sent.discard(rid)
        self._first_token.pop(rid, None)
        self._total.pop(rid, None)
