"""`cache_aware`: where the longest prefix was sent before, unless the pool is out of balance. It guesses the caches."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from routers.prefixes.prefix_index import PrefixIndex

# (threshold, abs, rel): the wheels of sglang-router and vllm-router, and SMG's library
_DEFAULTS = {"wheel": (0.3, 64, 1.5), "smg": (0.5, 32, 1.1)}


@dataclass(frozen=True, slots=True)
class CacheAwareSettings:
    """`defaults` names the set that null values are taken from; `index_tokens` bounds the index, per replica."""

    defaults: str = "wheel"
    threshold: float | None = None
    abs: int | None = None
    rel: float | None = None
    index_tokens: int = 1 << 24

    def __post_init__(self) -> None:
        one_of("defaults", self.defaults, tuple(_DEFAULTS))
        within("threshold", self.threshold, 0.0, 1.0)
        within("abs", self.abs, 0)
        within("rel", self.rel, 1.0)
        within("index_tokens", self.index_tokens, 1)


class CacheAware(Policy):
    """SGLang's rule, with requests in flight as the load:

    out of balance (max − min > abs and max > rel·min) → least load; else the match's share of the prompt > threshold → the
    replica that was sent it last; else least load. The prompt is inserted for the chosen replica either way. Least load is
    the first in order on a tie, so an idle pool is served by one replica (the wheels do the same). A match that is away goes
    to the first eligible replica and is not inserted. Source: sgl-model-gateway, `policies/cache_aware.rs` (the default set
    `smg` is its library's, `policies/mod.rs`; `wheel` that of the wheels' command lines). Differences: the gateway counts the
    load of ineligible replicas too, matches characters, and evicts every 30 s or two minutes, this index at once. Its newer
    releases can add a token-usage threshold and KV events; they are left out. Weakness: it waits for a gap of 32 or 64
    requests before it balances, and what it matches may have been evicted long ago.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(CacheAwareSettings, context.parameters, "cache_aware")
        threshold, gap, ratio = _DEFAULTS[settings.defaults]
        self._threshold = threshold if settings.threshold is None else settings.threshold
        self._abs = gap if settings.abs is None else settings.abs
        self._rel = ratio if settings.rel is None else settings.rel
        self._index = PrefixIndex(context.replica_ids, settings.index_tokens)
        self._unbalanced = Prebuilt("out of balance: least load")
        self._matched = Prebuilt("prefix match")
        self._unknown = Prebuilt("no match: least load")
        self._away = Prebuilt("match is away: first in order")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        least = replicas[0]
        most = least.in_flight
        for view in replicas:
            if view.in_flight < least.in_flight:
                least = view
            elif view.in_flight > most:
                most = view.in_flight
        if most - least.in_flight > self._abs and most > self._rel * least.in_flight:
            return self._insert(request, self._unbalanced[least.replica_id])
        matched_tokens, owner = self._index.longest_match(request.prompt)
        if owner is None or matched_tokens <= self._threshold * request.prompt.tokens:
            return self._insert(request, self._unknown[least.replica_id])
        if any(v.replica_id == owner for v in replicas):
            return self._insert(request, self._matched[owner])
        return self._away[replicas[0].replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._index.set_replicas(replica_ids)

    def _insert(self, request: RoutedRequest, decision: Decision) -> Decision:
        self._index.insert(request.prompt, decision.replica_id)
        return decision
