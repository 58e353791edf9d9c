"""`epp_weighted`: a weighted sum of queue, KV use and prefix scores, the greatest wins. It believes the last polled gauges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.parameters import one_of, settings_of, within
from routers.policy import Decision, PolicyContext, RoutedRequest
from routers.prefixes.block_index import KINDS
from routers.prefixes.indexed_policy import IndexedPolicy


@dataclass(frozen=True, slots=True)
class EppWeightedSettings:
    """llm-d's defaults (`pkg/epp/config/loader/defaults.go`, `approximateprefix/types.go`).

    At most `prefix_tokens` of a prompt are matched (before 2026: 256 blocks). `index_blocks` null: the engine's KV blocks (its
    `autoTune`), or 31,250 where the engine is unknown. `index` exact is its precise prefix scorer.
    """

    queue: float = 2.0
    kv: float = 2.0
    prefix: float = 3.0
    prefix_tokens: int = 131_072
    index: str = "approximate"
    index_blocks: int | None = None

    def __post_init__(self) -> None:
        within("queue", self.queue, 0.0)
        within("kv", self.kv, 0.0)
        within("prefix", self.prefix, 0.0)
        within("prefix_tokens", self.prefix_tokens, 1)
        one_of("index", self.index, KINDS)
        within("index_blocks", self.index_blocks, 1)


class EppWeighted(IndexedPolicy):
    """argmax of 2·queue + 2·kv + 3·prefix; who ties takes turns.

    queue = (max − waiting)/(max − min) over all replicas with news (1 where all are equal), kv = 1 − usage, prefix = matched /
    total whole blocks of the prompt. A replica without any news yet gets 0 for queue and kv. Source: llm-d's router (EPP),
    `scheduling/scorer/{queuedepth,kvcacheutilization,prefix}`, `picker/maxscore` (equal scores rotate by one counter; older
    releases shuffled). Its LRU drops the head of an old prompt before its tail; this index the tail first, as engines do.
    Weakness: the gauges are old, so a burst between two polls all goes to the same winner, and one waiting request more or
    less is worth a whole queue score when the others are equal.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings = settings_of(EppWeightedSettings, context.parameters, "epp_weighted")
        super().__init__(context, settings.index, settings.index_blocks)
        self._decisions = Prebuilt("greatest score")
        self._tied = Prebuilt("greatest score, by turns")
        self._turn = 0

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        scores = self._load_scores(replicas)
        matched = self._index.matched(request.prompt, now_s)
        if matched:
            worth = self._prefix_scores(request.prompt.tokens, matched)
            places = self._order.places(replicas)
            for replica_id, tokens in matched.items():
                if replica_id in places:
                    scores[places[replica_id]] += worth[tokens]
        greatest = max(scores)
        if scores.count(greatest) == 1:
            return self._decisions[replicas[scores.index(greatest)].replica_id]
        tied = [view.replica_id for view, score in zip(replicas, scores, strict=True) if score == greatest]
        return self._tied[self._by_turns(tied)]

    def _load_scores(self, replicas: Sequence[ReplicaView]) -> list[float]:
        """Queue and KV use, weighted; 0 without news."""
        queue, kv = self._settings.queue, self._settings.kv
        waiting = [v.waiting for v in replicas if v.observed_s > -inf]
        if not waiting:
            return [0.0] * len(replicas)
        longest = max(waiting)
        spread = longest - min(waiting)
        step, flat = (queue / spread, 0.0) if spread else (0.0, queue)
        if len(waiting) == len(replicas):
            return [step * (longest - v.waiting) + kv * (1.0 - v.kv_used) + flat for v in replicas]
        return [step * (longest - v.waiting) + kv * (1.0 - v.kv_used) + flat if v.observed_s > -inf else 0.0 for v in replicas]

    def _prefix_scores(self, tokens: int, matched: Mapping[int, int]) -> dict[int, float]:
        """What each number of matched tokens is worth: many replicas hold the same."""
        size = self._index.block_tokens
        total = min(tokens, self._settings.prefix_tokens) // size
        return {n: self._settings.prefix * min(1.0, n // size / total) if total else 0.0 for n in set(matched.values())}

    def _by_turns(self, tied: Sequence[int]) -> int:
        """One counter for all ties, as the source has it: it begins again whenever it reaches the number of those that tie."""
        n = len(tied)
        turn = self._turn % n
        self._turn = self._turn + 1 if self._turn + 1 < n else 0
        return tied[turn]
