"""`lmetric`: new prefill tokens times batch size, the least product wins. It has nothing to tune."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, PolicyContext, RoutedRequest
from routers.prefixes.block_index import KINDS
from routers.prefixes.indexed_policy import IndexedPolicy


@dataclass(frozen=True, slots=True)
class LMetricSettings:
    """The rule has no weights; these are the index's. `index_blocks` null: the engine's KV blocks, or 31,250 (unknown)."""

    index: str = "approximate"
    index_blocks: int | None = None
    ttl_s: float | None = None

    def __post_init__(self) -> None:
        one_of("index", self.index, KINDS)
        within("index_blocks", self.index_blocks, 1)
        within("ttl_s", self.ttl_s, 0.001)


class LMetric(IndexedPolicy):
    """argmin (tokens to prefill there) × (requests in flight there + 1), then the fewest in flight, then the first in order.

    Source: Zhang et al., "LMetric: Simple is Better", arXiv 2603.15202 (abstract read: new prefill tokens if routed there ×
    current batch size); the "+ 1" and the ties as SMG's `policies/lmetric.rs` and llm-d's `scorer/lmetric` have it, which
    take the router's own requests in flight as the batch. Unverified: whether the paper's first factor includes tokens that
    already wait for their prefill. At least one token is always new (the last is never taken from cache): otherwise a full hit
    would make the load irrelevant. Weakness: an idle replica's product is its prefill alone, and one with a long queue of
    short requests looks worse than one with few long ones.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(LMetricSettings, context.parameters, "lmetric")
        super().__init__(context, settings.index, settings.index_blocks, settings.ttl_s)
        self._decisions = Prebuilt("least new tokens × batch")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        tokens = request.prompt.tokens
        loads = [v.in_flight for v in replicas]
        products = [tokens * (load + 1) for load in loads]
        matched = self._index.matched(request.prompt, now_s)
        if matched:
            places = self._order.places(replicas)
            new_tokens = {cached: max(1, tokens - cached) for cached in set(matched.values())}  # many hold the same
            for replica_id, cached in matched.items():
                if replica_id in places:
                    place = places[replica_id]
                    products[place] = new_tokens[cached] * (loads[place] + 1)
        least = min(products)
        best = products.index(least)
        if products.count(least) > 1:
            fewest = min([load for load, product in zip(loads, products, strict=True) if product == least])
            best = next(n for n, load in enumerate(loads) if load == fewest and products[n] == least)
        return self._decisions[replicas[best].replica_id]
