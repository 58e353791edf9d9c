"""`consistent_hash`: a session stays where its key falls on a ring. It is blind to load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.hashing.hash_ring import HashRing, hash_of
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest

__all__ = ["ConsistentHash", "ConsistentHashSettings", "hash_of"]


@dataclass(frozen=True, slots=True)
class ConsistentHashSettings:
    """`virtual_nodes` points a replica on the ring (vllm-router: 160). `away`: where a session goes whose home is not
    eligible, to the next replica on the ring or to the first one of the pool (as vllm-router does)."""

    virtual_nodes: int = 160
    away: str = "next"

    def __post_init__(self) -> None:
        within("virtual_nodes", self.virtual_nodes, 1)
        one_of("away", self.away, ("next", "first"))


class ConsistentHash(Policy):
    """The first eligible replica clockwise of the session key's hash (vllm-router's `consistent_hash.rs`, with XXH64 points).

    A replica that is away gives its sessions to the next ones on the ring; all others stay where they were. vllm-router
    sends them all to the *first* healthy replica instead (`away: first`): it doubles that one's load. Weakness: popular
    keys make hot spots whatever the load, and retries return to the same replica.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(ConsistentHashSettings, context.parameters, "consistent_hash")
        self._points = settings.virtual_nodes
        self._first = settings.away == "first"
        self._ring = HashRing(context.replica_ids, self._points)
        self._home = Prebuilt("session's place on the ring")
        self._away = Prebuilt("first of the pool, home is away" if self._first else "next on the ring, home is away")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        ring, key_hash = self._ring, hash_of(request.session_key)
        home = ring.home(key_hash)
        if len(replicas) == len(ring.ids):
            return self._home[home]
        eligible = {v.replica_id for v in replicas}
        if home in eligible:
            return self._home[home]
        return self._away[replicas[0].replica_id if self._first else ring.first_in(eligible, key_hash)]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._ring = HashRing(replica_ids, self._points)
        self._home.keep(replica_ids)
        self._away.keep(replica_ids)
