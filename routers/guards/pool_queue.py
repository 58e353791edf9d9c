"""`queue`: at most so many requests in the whole pool, the rest waits in line. It does not know the replicas."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, Release
from routers.lines.waiting_line import QueueSettings, WaitingLine
from routers.parameters import settings_of
from routers.policy import RoutedRequest


class PoolQueueGuard(Guard):
    """A request holds one of `cap` places from its admission until it leaves the router, its retries and backoffs included."""

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(QueueSettings, context.parameters, "queue")
        if settings.cap is None:
            raise ValueError("queue: cap = None is not allowed; it must be a whole number of at least 1")
        self._cap = settings.cap
        self._inside: set[int] = set()
        self._line = WaitingLine(settings)

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if request.rid in self._inside:
            return SEND  # a retry: it kept its place
        if len(self._inside) < self._cap and not self._line:
            self._inside.add(request.rid)
            self._line.pass_by(now_s)
            return SEND
        return self._line.join(request, now_s)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._inside.discard(request.rid)
        self._line.hang_up(request.rid)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        left = self._line.leave(self._cap - len(self._inside), now_s)
        self._inside.update(r.rid for r in left if r.refuse_status is None)
        return left

    def next_wake_s(self) -> float:
        return self._line.next_expiry_s()
