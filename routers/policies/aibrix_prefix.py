"""`aibrix_prefix`: the best prefix match among those not busier than most, else fewest requests. It guesses the caches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from routers.prefixes.block_index import ApproximateIndex, engine_block_tokens


@dataclass(frozen=True, slots=True)
class AibrixPrefixSettings:
    """AIBrix's defaults: busier than mean + `deviations` σ is too busy; a gap of `imbalance_gap` and more is out of balance.

    `imbalance`: factor (main branch: max > `imbalance_factor`·(mean + 1) and max − min ≥ gap: only the least loaded may match)
    or gap (earlier releases: max − min > gap: fewest requests at once). `ttl_s` is theirs; `index_blocks` a replica stands for
    their 200,000 blocks of 4 characters, taken as 200,000 tokens in blocks of 16.
    """

    deviations: float = 1.0
    imbalance: str = "factor"
    imbalance_gap: int = 8
    imbalance_factor: float = 2.0
    index_blocks: int = 12_500
    ttl_s: float | None = 1200.0

    def __post_init__(self) -> None:
        one_of("imbalance", self.imbalance, ("factor", "gap"))
        within("deviations", self.deviations, 0.0)
        within("imbalance_gap", self.imbalance_gap, 0)
        within("imbalance_factor", self.imbalance_factor, 1.0)
        within("index_blocks", self.index_blocks, 1)
        within("ttl_s", self.ttl_s, 0.001)


class AibrixPrefix(Policy):
    """Among replicas that were sent a part of the prompt and have at most mean + 1σ requests: the greatest match in whole
    percent, then the fewest requests, then at random. None such: fewest requests, ties at random.

    Source: AIBrix, `pkg/plugins/gateway/algorithms/prefix_cache.go` and `pkg/utils/prefixcacheindexer/hash.go` (main branch
    of 2026); σ is the sample's (n − 1), requests are the gateway's own count of running ones. Differences: its index is one
    LRU for all replicas and counts blocks of 4 characters; ours is bounded by replica and counts the engine's blocks.
    Weakness: the percentage is of the prompt, so 1% of a long prompt beats an idle replica.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings = settings_of(AibrixPrefixSettings, context.parameters, "aibrix_prefix")
        size = engine_block_tokens(context.profile)
        self._index = ApproximateIndex(context.replica_ids, size, max(1, settings.index_blocks * 16 // size), settings.ttl_s)
        self._draw = RequestDraw(context.seed, "policy-aibrix-prefix")
        self._matched = Prebuilt("prefix match")
        self._skipped = Prebuilt("match is too busy: fewest requests")
        self._unknown = Prebuilt("no match: fewest requests")
        self._unbalanced = Prebuilt("out of balance: fewest requests")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        loads = [v.in_flight for v in replicas]
        least, most, total = min(loads), max(loads), sum(loads)
        settings, n = self._settings, len(loads)
        allowed = most
        if settings.imbalance == "gap":
            if most - least > settings.imbalance_gap:
                return self._fewest(self._unbalanced, request, replicas, loads, least)
        elif most > settings.imbalance_factor * (total / n + 1) and most - least >= settings.imbalance_gap:
            allowed = least
        matched = self._index.matched(request.prompt, now_s)
        candidates = [(view, matched[view.replica_id]) for view in replicas if view.replica_id in matched] if matched else []
        if not candidates:
            return self._fewest(self._unknown, request, replicas, loads, least)
        if allowed < most:
            candidates = [c for c in candidates if c[0].in_flight <= allowed]
        bound = total / n + settings.deviations * _deviation(loads, total)
        best = self._best(candidates, bound, request.prompt.tokens // self._index.block_tokens)
        if best:
            return self._matched[self._draw.one_of(best, request)]
        reason = self._skipped if candidates else self._unbalanced
        return self._fewest(reason, request, replicas, loads, least)

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._index.sent(request.prompt, decision.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._index.set_replicas(replica_ids)

    def _best(self, candidates: Sequence[tuple[ReplicaView, int]], bound: float, blocks: int) -> list[int]:
        """The replicas of the greatest whole percentage within the bound, the fewest requests among them."""
        best: list[int] = []
        greatest = fewest = 0
        for view, tokens in candidates:
            load = view.in_flight
            if load > bound:
                continue
            percent = 100 * (tokens // self._index.block_tokens) // blocks
            if best and (percent < greatest or (percent == greatest and load > fewest)):
                continue
            if best and percent == greatest and load == fewest:
                best.append(view.replica_id)
            else:
                best, greatest, fewest = [view.replica_id], percent, load
        return best

    def _fewest(
        self,
        decisions: Mapping[int, Decision],
        request: RoutedRequest,
        replicas: Sequence[ReplicaView],
        loads: Sequence[int],
        least: int,
    ) -> Decision:
        ties = [view.replica_id for view, load in zip(replicas, loads, strict=True) if load == least]
        return decisions[self._draw.one_of(ties, request)]


def _deviation(loads: Sequence[int], total: int) -> float:
    """The sample's standard deviation (n − 1); 0 for one replica."""
    n = len(loads)
    if n == 1:
        return 0.0
    return sqrt((n * sum([load * load for load in loads]) - total * total) / (n * (n - 1)))
