"""`consistent_hash_two_choices`: two places on the ring for a session, the lighter one wins. It looks at no third one."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.hashing.hash_ring import HashRing, hash_of
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class TwoChoicesSettings:
    """`virtual_nodes` points a replica on the ring (160 as `consistent_hash`)."""

    virtual_nodes: int = 160

    def __post_init__(self) -> None:
        within("virtual_nodes", self.virtual_nodes, 1)


class ConsistentHashTwoChoices(Policy):
    """Two hashes of the session key, the first eligible replica clockwise of each; fewer in flight wins, the first on a tie.

    Mitzenmacher's two choices on a ring (Byers, Considine, Mitzenmacher, "Simple Load Balancing for Distributed Hash Tables",
    2003, who let a key keep its choice; here it is made anew each time). Where both hashes meet the same replica, the second
    is the next one on the ring. Weakness: a session's cache is spread over two replicas, and a hot key has two only.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(TwoChoicesSettings, context.parameters, "consistent_hash_two_choices")
        self._points = settings.virtual_nodes
        self._ring = HashRing(context.replica_ids, self._points)
        self._first = Prebuilt("first choice on the ring")
        self._second = Prebuilt("second choice on the ring, lighter")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        ring, key = self._ring, request.session_key
        one_hash, other_hash = hash_of(key), hash_of(key, 1)
        if len(replicas) == len(ring.ids):
            one, other, place, views = ring.home(one_hash), ring.home(other_hash), ring.place, replicas
        else:
            views, place = replicas, {v.replica_id: n for n, v in enumerate(replicas)}
            one, other = ring.first_in(place, one_hash), ring.first_in(place, other_hash)
        if one == other:
            other = next((i for i in ring.walk(other_hash) if i != one and i in place), one)
        lighter = views[place[other]].in_flight < views[place[one]].in_flight
        return self._second[other] if lighter else self._first[one]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._ring = HashRing(replica_ids, self._points)
        self._first.keep(replica_ids)
        self._second.keep(replica_ids)
