"""What every limit on places shares: it hides replicas that are full, and refuses while all are. It does not know the limit."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.guard import SEND, Admission, Guard, Refuse, TryEnd
from routers.limits.places import Places
from routers.policy import RoutedRequest

NO_LIMIT = float("inf")


class LimitGuard(Guard):
    """Full replicas are hidden from the policy *and* from the guards before this one.

    So a `replica_queue` in front of it holds what it would refuse, and lets one go whenever a place is free. Where no replica
    is shown at all it lets pass: that is another guard's or the router's word. A place belongs to a try: `retry` stands before.
    """

    def __init__(self, status: int, per_replica: float = NO_LIMIT) -> None:
        self._refusal = Refuse(status)
        self._places = Places(per_replica)

    def limit_of(self, replica_id: int, now_s: float) -> float:
        """The most that one replica may hold."""
        return self._places.limit

    def limit_of_pool(self, now_s: float) -> float:
        """The most that all replicas together may hold."""
        return NO_LIMIT

    def weight_of(self, request: RoutedRequest) -> int:
        """How much one request holds."""
        return 1

    def is_full(self, replica_id: int, now_s: float) -> bool:
        """Does the replica hold what it may?"""
        return replica_id in self._places.full

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        if replicas and not self._has_room(replicas, now_s):
            return self._refusal
        self._places.grant(request.rid, self.weight_of(request))
        return SEND

    def hides(self, now_s: float) -> bool:
        return bool(self._places.full) or self._pool_is_full(now_s)

    def admits(self, replica_id: int, now_s: float) -> bool:
        return not self._pool_is_full(now_s) and not self.is_full(replica_id, now_s)

    def on_sent(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._places.send(request.rid, replica_id, self.weight_of(request))

    def on_end(self, request: RoutedRequest, end: TryEnd, now_s: float) -> None:
        self._places.end(request.rid, end.replica_id)

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        self._places.leave(request.rid)

    def _pool_is_full(self, now_s: float) -> bool:
        """One that was let go and is on its way would not find it so: it has its place."""
        return not self._places.granted and self._places.sent >= self.limit_of_pool(now_s)

    def _has_room(self, replicas: Sequence[ReplicaView], now_s: float) -> bool:
        places = self._places
        if places.sent + places.granted >= self.limit_of_pool(now_s):
            return False
        free = -float(places.granted)
        for view in replicas:
            free += max(0.0, self.limit_of(view.replica_id, now_s) - places.at(view.replica_id))
            if free > 0:
                return True
        return False
