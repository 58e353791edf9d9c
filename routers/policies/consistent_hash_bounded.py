"""`consistent_hash_bounded`: a session's place on the ring, unless that replica holds more than c times the mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.hashing.hash_ring import HashRing, hash_of
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, NoReplica, Policy, PolicyContext, RoutedRequest

_ROUNDING = 1e-9  # a product that is whole but for rounding must not be rounded up


@dataclass(frozen=True, slots=True)
class BoundedSettings:
    """`load_factor` c (KubeAI's mean load percentage 125) and `virtual_nodes` points a replica (KubeAI: 256).

    `bound`: a replica may hold ceil(c·mean) requests (the paper), or c·mean without rounding up (kubeai).
    """

    load_factor: float = 1.25
    virtual_nodes: int = 256
    bound: str = "paper"

    def __post_init__(self) -> None:
        within("load_factor", self.load_factor, 1.0)
        within("virtual_nodes", self.virtual_nodes, 1)
        one_of("bound", self.bound, ("paper", "kubeai"))


class ConsistentHashBounded(Policy):
    """Clockwise from the session key's hash to the first replica that holds, this request included, at most ceil(c·mean).

    CHWBL: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016; mean = (in flight + 1) / eligible
    replicas. KubeAI's `balance_chwbl.go` does not round up: with fewer requests than replicas / c nobody is below its bound,
    and it goes to the key's home after all, so its bound fails exactly at low load (`bound: kubeai`). It hashes the first 100
    characters of the prompt, we the session. Weakness: spilled sessions lose their cache, and the bound counts requests.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(BoundedSettings, context.parameters, "consistent_hash_bounded")
        self._ring = HashRing(context.replica_ids, self._settings.virtual_nodes)
        self._home, self._spilled, self._none = (
            Prebuilt(reason)
            for reason in ("session's place on the ring", "next on the ring below the bound", "none below the bound: home")
        )

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        ring, key_hash = self._ring, hash_of(request.session_key)
        total = 0
        for view in replicas:
            total += view.in_flight
        limit = self._limit(total, len(replicas))
        place = ring.place if len(replicas) == len(ring.ids) else {v.replica_id: n for n, v in enumerate(replicas)}
        home = None
        for replica_id in ring.walk(key_hash):
            if replica_id in place:
                if replicas[place[replica_id]].in_flight < limit:
                    return self._home[replica_id] if home is None else self._spilled[replica_id]
                home = replica_id if home is None else home
        if home is None:
            raise NoReplica
        return self._none[home]

    def _limit(self, total: int, replicas: int) -> float:
        """A replica may be chosen while it holds fewer than this."""
        bound = self._settings.load_factor * (total + 1) / replicas
        if self._settings.bound == "paper":
            return ceil(bound - _ROUNDING)
        return float("inf") if total == 0 else int(bound + _ROUNDING)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._ring = HashRing(replica_ids, self._settings.virtual_nodes)
        for decisions in (self._home, self._spilled, self._none):
            decisions.keep(replica_ids)
