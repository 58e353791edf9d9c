"""`replica_queue`: at most so many tries at each replica, the rest waits in one line at the router. It does not choose."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, Release, TryEnd
from routers.limits.places import Places
from routers.lines.waiting_line import QueueSettings, WaitingLine
from routers.parameters import settings_of
from routers.policy import RoutedRequest


class ReplicaQueueGuard(Guard):
    """Hides full replicas from the policy, and holds requests while all that it is shown are full.

    `cap` null: it has no limit of its own, and holds while other guards hide every replica. One is let go at a time, since what
    the others hide may change with each. A place belongs to a try, not to a request: put `retry` *before* it, then a retry
    waits in line again. A retry asked for by a later guard does not pass it, and is refused where every replica is full.
    """

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(QueueSettings, context.parameters, "replica_queue")
        self._places = Places(float("inf") if settings.cap is None else settings.cap)
        self._line = WaitingLine(settings)

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if not self._line and self._has_room(replicas):
            self._places.grant(request.rid)
            self._line.pass_by(now_s)
            return SEND
        return self._line.join(request, now_s)

    def admits(self, replica_id: int, now_s: float) -> bool:
        return replica_id not in self._places.full

    def hides(self, now_s: float) -> bool:
        return bool(self._places.full)

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._places.send(request.rid, replica_id)

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._places.end(request.rid, end.replica_id)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._places.leave(request.rid)
        self._line.hang_up(request.rid)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        left = self._line.leave(1 if self._has_room(replicas) else 0, now_s)
        for item in left:
            if item.refuse_status is None:
                self._places.grant(item.rid)
        return left

    def next_wake_s(self) -> float:
        return self._line.next_expiry_s()

    def _has_room(self, replicas: Sequence[ReplicaView]) -> bool:
        free = -float(self._places.granted)
        for view in replicas:
            free += max(0.0, self._places.limit - self._places.at(view.replica_id))
            if free > 0:
                return True
        return False
