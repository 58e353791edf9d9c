"""`prefix_hash`: requests that begin alike fall on one place of a ring, unless that replica is too busy. It keeps no index."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.hashing.hash_ring import HashRing, hash_of
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from workloads.request import Prompt


@dataclass(frozen=True, slots=True)
class PrefixHashSettings:
    """SMG's defaults. `prefix_tokens` are hashed; `load_factor` times the mean load is too busy; `virtual_nodes` a replica."""

    prefix_tokens: int = 256
    load_factor: float = 1.25
    virtual_nodes: int = 150

    def __post_init__(self) -> None:
        within("prefix_tokens", self.prefix_tokens, 1)
        within("load_factor", self.load_factor, 1.0)
        within("virtual_nodes", self.virtual_nodes, 1)


class PrefixHash(Policy):
    """The eligible replica clockwise of the hash of the first 256 tokens, if its load ≤ 1.25·(total + 1)/n; else the least
    loaded, the first in order on a tie. With nothing in flight nobody is too busy.

    Source: sgl-model-gateway (SMG), `policies/prefix_hash.rs`, and `HashRing` in `core/worker_registry.rs` (150 virtual nodes;
    BLAKE3 there, XXH64 here). The load is requests in flight by the router's own count. Here "the first 256 tokens" are named
    by the segment that holds the 256th, so two prompts that part inside it have different hashes, as they do there.
    Weakness: all with one system prompt longer than 256 tokens begin alike, and everything beyond the bound spills to
    replicas that lack the prefix and change from request to request.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(PrefixHashSettings, context.parameters, "prefix_hash")
        self._home = Prebuilt("prefix's place on the ring")
        self._away = Prebuilt("next on the ring, home is away")
        self._spilled = Prebuilt("home is too busy: least load")
        self._ring = HashRing(context.replica_ids, self._settings.virtual_nodes)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        ring, key_hash = self._ring, hash_of(self._prefix_key(request.prompt))
        home = ring.home(key_hash)
        if len(replicas) == len(ring.ids):
            chosen = replicas[ring.place[home]]
        else:
            eligible = {v.replica_id: v for v in replicas}
            chosen = eligible[ring.first_in(eligible, key_hash)]
        replica_id = chosen.replica_id
        if chosen.in_flight:  # 0 is never too much
            loads = [v.in_flight for v in replicas]
            bound = self._settings.load_factor * (sum(loads) + 1) / len(loads)
            if chosen.in_flight > bound >= (least := min(loads)):
                return self._spilled[replicas[loads.index(least)].replica_id]
        return self._home[replica_id] if replica_id == home else self._away[replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._ring = HashRing(replica_ids, self._settings.virtual_nodes)
        for decisions in (self._home, self._away, self._spilled):
            decisions.keep(replica_ids)

    def _prefix_key(self, prompt: Prompt) -> int:
        """Names the first `prefix_tokens` tokens (all of them, where the prompt is shorter)."""
        if not prompt.keys:
            return 0
        return prompt.keys[min(bisect_left(prompt.ends, self._settings.prefix_tokens), len(prompt.keys) - 1)]
