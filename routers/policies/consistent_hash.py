"""`consistent_hash`: a session stays where its key falls on a ring. It is blind to load."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from xxhash import xxh64_intdigest

from replicas.view import ReplicaView
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class ConsistentHashSettings:
    """`virtual_nodes` points a replica on the ring (vllm-router: 160)."""

    virtual_nodes: int = 160

    def __post_init__(self) -> None:
        within("virtual_nodes", self.virtual_nodes, 1)


class ConsistentHash(Policy):
    """The first eligible replica clockwise of the session key's hash.

    A replica that is away gives its sessions to the next ones on the ring; all others stay where they were.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(ConsistentHashSettings, context.parameters, "consistent_hash")
        points = [(hash_of(i, copy), i) for i in context.replica_ids for copy in range(settings.virtual_nodes)]
        points.sort()
        self._hashes = [h for h, _ in points]
        self._owners = [i for _, i in points]
        self._all = len(context.replica_ids)
        self._home = {i: Decision(i, "session's place on the ring") for i in context.replica_ids}
        self._away = {i: Decision(i, "next on the ring, home is away") for i in context.replica_ids}

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        owners = self._owners
        start = bisect_right(self._hashes, hash_of(request.session_key)) % len(owners)
        if len(replicas) == self._all:
            return self._home[owners[start]]
        eligible = {v.replica_id for v in replicas}
        place = next(p for p in range(start, start + len(owners)) if owners[p % len(owners)] in eligible)
        chosen = owners[place % len(owners)]
        return self._home[chosen] if chosen == owners[start] else self._away[chosen]


def hash_of(*key: int) -> int:
    """64 bits (XXH64) of integers, the same on every machine."""
    return xxh64_intdigest(b"".join(part.to_bytes(16, "little", signed=True) for part in key))
