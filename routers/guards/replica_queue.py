"""`replica_queue`: at most so many tries at each replica, the rest waits in one line at the router. It does not choose."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, GuardContext, Release, TryEnd
from routers.guards.waiting_line import QueueSettings, WaitingLine
from routers.parameters import settings_of
from routers.policy import RoutedRequest


class ReplicaQueueGuard(Guard):
    """Hides full replicas from the policy, and holds requests while all that it is shown are full.

    A place belongs to a try, not to a request: put `retry` *before* it, then a retry waits in line again. A retry asked for
    by a later guard does not pass it, and is refused where every replica is full.
    """

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(QueueSettings, context.parameters, "replica_queue")
        self._cap = settings.cap
        self._tries: dict[int, int] = {}  # replica → tries under way
        self._at: dict[int, int] = {}  # rid → its replica
        self._granted: set[int] = set()  # let go, not yet sent
        self._line = WaitingLine(settings)

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if not self._line and self._room(replicas) > 0:
            self._granted.add(request.rid)
            return SEND
        return self._line.join(request, now_s)

    def admits(self, replica_id: int, now_s: float) -> bool:
        return self._tries.get(replica_id, 0) < self._cap

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._granted.discard(request.rid)
        self._at[request.rid] = replica_id
        self._tries[replica_id] = self._tries.get(replica_id, 0) + 1

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._free(request.rid)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._free(request.rid)
        self._granted.discard(request.rid)
        self._line.hang_up(request.rid)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        left = self._line.leave(max(0, self._room(replicas)), now_s)
        self._granted.update(r.rid for r in left if r.refuse_status is None)
        return left

    def next_wake_s(self) -> float:
        return self._line.next_expiry_s()

    def _room(self, replicas: Sequence[ReplicaView]) -> int:
        free = -len(self._granted)
        for view in replicas:
            tries = self._tries.get(view.replica_id, 0)
            if tries < self._cap:
                free += self._cap - tries
        return free

    def _free(self, rid: int) -> None:
        replica_id = self._at.pop(rid, None)
        if replica_id is not None:
            self._tries[replica_id] -= 1
