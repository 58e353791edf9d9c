"""Which replicas a request may go to: the healthy ones that the guards admit. It does not choose among them."""

from collections.abc import Callable, Sequence

from replicas.view import ReplicaView
from routers.guard import Guard

Test = tuple[Callable[[float], bool], Callable[[int, float], bool]]  # (hides anybody?, admits this one?)


class EligibleReplicas:
    """The router's views in ascending id, and who of them is open. One shared list as long as nobody is hidden."""

    def __init__(self, views: Sequence[ReplicaView], guards: Sequence[Guard]) -> None:
        self.views = tuple(sorted(views, key=lambda v: v.replica_id))
        self.by_id = {v.replica_id: v for v in self.views}
        hiding = [(i, (g.hides, g.admits)) for i, g in enumerate(guards) if type(g).admits is not Guard.admits]
        self._all: list[Test] = [test for _, test in hiding]
        self._others: list[list[Test]] = [[test for i, test in hiding if i != index] for index in range(len(guards))]
        self.leaving: set[int] = set()
        self._healthy = [v for v in self.views if v.healthy]

    @property
    def ids(self) -> tuple[int, ...]:
        """Of the pool's replicas, healthy or not, ascending."""
        return tuple([v.replica_id for v in self.views])

    def set_healthy(self, replica_id: int, healthy: bool) -> None:
        self.by_id[replica_id].healthy = healthy
        self._healthy = [v for v in self.views if v.healthy]

    def add(self, view: ReplicaView) -> None:
        """ValueError if its id is in use, or still under way out."""
        if view.replica_id in self.by_id:
            raise ValueError(f"replica {view.replica_id} is in the pool already")
        self.by_id[view.replica_id] = view
        self._set_pool([*self.views, view])

    def remove(self, replica_id: int) -> None:
        """It is shown to nobody any more; its counts are kept until they are 0. ValueError for one that is not in the pool."""
        if all(v.replica_id != replica_id for v in self.views):
            raise ValueError(f"replica {replica_id} is not in the pool")
        self._set_pool([v for v in self.views if v.replica_id != replica_id])
        self.leaving.add(replica_id)
        self.forget(self.by_id[replica_id])

    def forget(self, view: ReplicaView) -> None:
        """Drop one that left, once nothing is under way there."""
        if view.replica_id in self.leaving and view.in_flight == 0:
            self.leaving.discard(view.replica_id)
            del self.by_id[view.replica_id]

    def _set_pool(self, views: Sequence[ReplicaView]) -> None:
        self.views = tuple(sorted(views, key=lambda v: v.replica_id))
        self._healthy = [v for v in self.views if v.healthy]

    def now(self, now_s: float) -> Sequence[ReplicaView]:
        """Healthy and admitted by all guards."""
        return self._admitted(self._all, now_s) if self._all else self._healthy

    def as_seen_by(self, index: int, now_s: float) -> Sequence[ReplicaView]:
        """What guard `index` is shown: healthy and admitted by the *other* guards."""
        return self._admitted(self._others[index], now_s) if self._others[index] else self._healthy

    def _admitted(self, tests: Sequence[Test], now_s: float) -> Sequence[ReplicaView]:
        shown = self._healthy
        for hides, admits in tests:
            if hides(now_s):
                shown = [v for v in shown if admits(v.replica_id, now_s)]
        return self._healthy if len(shown) == len(self._healthy) else shown
