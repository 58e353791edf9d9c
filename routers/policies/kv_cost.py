"""`kv_cost`: blocks to prefill plus blocks that decode, the least sum wins. It counts its own requests, not the engine's."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from replicas.view import ReplicaView
from routers.choices.pool_order import PoolOrder
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, KvEvent, Policy, PolicyContext, RoutedRequest, TryEnd
from routers.prefixes.active_blocks import ActiveBlocks
from routers.prefixes.block_index import KINDS, build_index, engine_block_tokens


@dataclass(frozen=True, slots=True)
class KvCostSettings:
    """Dynamo's defaults (`lib/kv-router/src/scheduling/config.rs`, 2026).

    `prefill_scale` is what its `overlap_score_weight` was before 2026 (w). `overlap_credit`: how much of a cached block is taken
    off; `credit_decay` takes less off where the prefill backlog exceeds the least one. `ttl_s` is for the approximate index.
    `index_blocks` is ours, a replica.
    """

    prefill_scale: float = 1.0
    overlap_credit: float = 1.0
    credit_decay: float = 0.0
    request_weight: float = 0.0
    temperature: float = 0.0
    index: str = "exact"
    ttl_s: float = 120.0
    index_blocks: int = 1 << 20

    def __post_init__(self) -> None:
        within("prefill_scale", self.prefill_scale, 0.0)
        within("overlap_credit", self.overlap_credit, 0.0, 1.0)
        within("credit_decay", self.credit_decay, 0.0)
        within("request_weight", self.request_weight, 0.0)
        within("temperature", self.temperature, 0.0)
        one_of("index", self.index, KINDS)
        within("ttl_s", self.ttl_s, 0.001)
        within("index_blocks", self.index_blocks, 1)


class KvCost(Policy):
    """argmin of scale·(prefill backlog + prompt − credit·cached)/block + active blocks with this prompt + weight·requests.

    Backlog: uncached prompt tokens sent there whose first token has not come. Active: whole blocks of the prompts under way
    there, a shared prefix once. Temperature 0: the least cost, ties at random; else drawn by softmax of −cost / (range ·
    temperature). Source: NVIDIA Dynamo, `lib/kv-router/src/scheduling/selector/default.rs` (host, disk and shared caches
    left out). `index` exact hears KV events (its default), approximate believes what it sent for 120 s. Weakness: with the
    exact index nothing is known to be cached until the first event, and a burst of one new prefix spreads.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings = settings_of(KvCostSettings, context.parameters, "kv_cost")
        self._size = engine_block_tokens(context.profile)
        self.wants_kv_events = settings.index == "exact"
        self._index = build_index(settings.index, context.replica_ids, self._size, settings.index_blocks, settings.ttl_s)
        self._active = ActiveBlocks(context.replica_ids, self._size)
        self._flat = dict.fromkeys(context.replica_ids, 0.0)  # cost of a replica before the prompt is known
        self._draw = RequestDraw(context.seed, "policy-kv-cost")
        self._least, self._tied = Prebuilt("least cost"), Prebuilt("least cost, tie drawn")
        self._drawn = Prebuilt("drawn by cost")
        self._order = PoolOrder(context.replica_ids)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        costs = self._costs(request, replicas, now_s)
        if self._settings.temperature:
            return self._drawn[replicas[_sample(costs, self._settings.temperature, self._draw(request))].replica_id]
        least = min(costs)
        if costs.count(least) == 1:
            return self._least[replicas[costs.index(least)].replica_id]
        ties = [v.replica_id for v, cost in zip(replicas, costs, strict=True) if cost == least]
        return self._tied[self._draw.one_of(ties, request)]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        replica_id = decision.replica_id
        cached = self._index.matched(request.prompt, now_s).get(replica_id, 0)
        self._active.begin(request, replica_id, request.prompt.tokens - cached)
        self._index.sent(request.prompt, replica_id, now_s)
        self._recount(replica_id)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._active.prefilled(request.rid)
        self._recount(decision.replica_id)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        self._active.end(request.rid)
        self._recount(decision.replica_id)

    def on_kv_event(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        self._index.heard(replica_id, event, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._index.set_replicas(replica_ids)
        self._active.set_replicas(replica_ids)
        self._order = PoolOrder(replica_ids)
        self._flat = dict.fromkeys(replica_ids, 0.0)
        for replica_id in replica_ids:
            self._recount(replica_id)

    def _costs(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> list[float]:
        """In blocks, less what is the same everywhere (the prompt itself)."""
        settings, size, flat = self._settings, self._size, self._flat
        costs = [flat[v.replica_id] for v in replicas]
        if settings.request_weight:
            costs = [cost + settings.request_weight * v.in_flight for cost, v in zip(costs, replicas, strict=True)]
        cached = self._index.matched(request.prompt, now_s)
        shared = self._active.shared(request.prompt)
        if not cached and not shared:
            return costs
        places = self._order.places(replicas)
        credit, backlog = settings.prefill_scale * settings.overlap_credit / size, self._active.prefill_tokens
        least = min([backlog[v.replica_id] for v in replicas]) if settings.credit_decay else 0
        decay = settings.credit_decay / (size * max(1, -(-request.prompt.tokens // size)))  # a backlog of one prompt like this
        for replica_id, tokens in cached.items():
            if replica_id in places:
                costs[places[replica_id]] -= credit * tokens / (1.0 + decay * (backlog[replica_id] - least))
        for replica_id, tokens in shared.items():
            if replica_id in places:
                costs[places[replica_id]] -= tokens / size
        return costs

    def _recount(self, replica_id: int) -> None:
        """Once a change: it is asked for at every choice."""
        if replica_id in self._flat:
            prefill = self._settings.prefill_scale * self._active.prefill_tokens[replica_id] / self._size
            self._flat[replica_id] = prefill + self._active.blocks_of(replica_id)


def _sample(costs: Sequence[float], temperature: float, draw: float) -> int:
    """A place drawn by softmax of −cost / (range · temperature); with equal chance where all cost the same."""
    least, most = min(costs), max(costs)
    if least == most:
        return int(draw * len(costs))
    weights = [exp((least - cost) / (most - least) / temperature) for cost in costs]
    left = draw * sum(weights)
    for place, weight in enumerate(weights):
        left -= weight
        if left < 0.0:
            return place
    return len(costs) - 1
