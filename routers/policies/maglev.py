"""`maglev`: a session's hash points into a table that is shared out among the replicas. It is blind to load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.weights import weights_of
from routers.hashing.hash_ring import hash_of
from routers.hashing.maglev_table import is_prime, maglev_table
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest

_REHASHED = 8  # times that a session whose home is away draws another slot, before the table is walked on


@dataclass(frozen=True, slots=True)
class MaglevSettings:
    """`table_size` slots, a prime (Envoy: 65537), and `weights` as in `rendezvous`."""

    table_size: int = 65537
    weights: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        within("table_size", self.table_size, 3, 5_000_011)  # Envoy's limit
        if not is_prime(self.table_size):
            raise ValueError(f"table_size = {self.table_size} is not allowed; it must be a prime")


class Maglev(Policy):
    """Table slot = hash of the session key modulo the table's size (Envoy's `maglev_lb.cc`; the paper is Eisenbud et al.,
    "Maglev", NSDI 2016). The table is made again when the pool changes, and most sessions stay.

    One that is away for now keeps its slots (Envoy makes the table again for it): its sessions draw another slot, by a hash of
    key and attempt, so that nobody else moves. (Envoy's own rule for retries, the hash XOR 2^64 − attempt, would do as well, but
    lands on neighbouring slots, whose owners depend on each other: measured, it spreads sessions unevenly.) Weakness: a pool
    change moves some sessions of replicas that stayed, unlike a ring; hot keys as on a ring.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(MaglevSettings, context.parameters, "maglev")
        self._slots = settings.table_size
        self._set_weights = weights_of(settings.weights, context.replica_ids, "maglev")
        self._home = Prebuilt("session's slot of the table")
        self._away = Prebuilt("another slot, home is away")
        self.on_pool(context.replica_ids, 0.0)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        key_hash = hash_of(request.session_key)
        home = self._table[key_hash % self._slots]
        if len(replicas) == self._all:
            return self._home[home]
        eligible = {v.replica_id for v in replicas}
        if home in eligible:
            return self._home[home]
        for attempt in range(1, _REHASHED + 1):
            chosen = self._table[hash_of(request.session_key, attempt) % self._slots]
            if chosen in eligible:
                return self._away[chosen]
        slot = key_hash % self._slots
        return self._away[next(i for i in (*self._table[slot:], *self._table[:slot]) if i in eligible)]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._all = len(replica_ids)
        weights = tuple([self._set_weights.get(i, 1) for i in replica_ids])
        self._table = maglev_table(tuple(replica_ids), weights, self._slots)
        self._home.keep(replica_ids)
        self._away.keep(replica_ids)
