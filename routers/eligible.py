"""Which replicas a request may go to: the healthy ones that the guards admit. It does not choose among them."""

from collections.abc import Callable, Sequence

from replicas.view import ReplicaView
from routers.guard import Guard

Admits = Callable[[int, float], bool]


class EligibleReplicas:
    """The router's views in ascending id, and who of them is open. One shared list as long as nobody is hidden."""

    def __init__(self, views: Sequence[ReplicaView], guards: Sequence[Guard]) -> None:
        self.views = tuple(sorted(views, key=lambda v: v.replica_id))
        self.by_id = {v.replica_id: v for v in self.views}
        hiding = [(i, g.admits) for i, g in enumerate(guards) if type(g).admits is not Guard.admits]
        self._all: list[Admits] = [admits for _, admits in hiding]
        self._others: list[list[Admits]] = [[admits for i, admits in hiding if i != index] for index in range(len(guards))]
        self._healthy = [v for v in self.views if v.healthy]

    def set_healthy(self, replica_id: int, healthy: bool) -> None:
        self.by_id[replica_id].healthy = healthy
        self._healthy = [v for v in self.views if v.healthy]

    def now(self, now_s: float) -> Sequence[ReplicaView]:
        """Healthy and admitted by all guards."""
        return self._admitted(self._all, now_s) if self._all else self._healthy

    def as_seen_by(self, index: int, now_s: float) -> Sequence[ReplicaView]:
        """What guard `index` is shown: healthy and admitted by the *other* guards."""
        return self._admitted(self._others[index], now_s) if self._others[index] else self._healthy

    def _admitted(self, tests: Sequence[Admits], now_s: float) -> Sequence[ReplicaView]:
        shown = self._healthy
        for admits in tests:
            shown = [v for v in shown if admits(v.replica_id, now_s)]
        return self._healthy if len(shown) == len(self._healthy) else shown
