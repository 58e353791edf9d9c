"""`drain_time`: the replica that will have worked off its queue first, by its last news. It does not know its true speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from replicas.view import ReplicaView
from routers.books.tally import Tally
from routers.choices.prebuilt import Prebuilt
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest

_STALE_POLLS = 3  # news older than so many poll intervals is none
_FULLEST = 0.999


@dataclass(frozen=True, slots=True)
class DrainTimeSettings:
    """SMG's defaults: `tokens_per_s` of an engine that tells no throughput, `kv_weight_s`, tokens of a request whose length is
    not known, and the poll interval (news older than three of them is dropped)."""

    tokens_per_s: float = 2000.0
    kv_weight_s: float = 0.15
    mean_prefill_tokens: int = 1024
    poll_s: float = 10.0

    def __post_init__(self) -> None:
        within("tokens_per_s", self.tokens_per_s, 0.001)
        within("kv_weight_s", self.kv_weight_s, 0.0)
        within("mean_prefill_tokens", self.mean_prefill_tokens, 1)
        within("poll_s", self.poll_s, 0.001)


class DrainTime(Policy):
    """argmin (queued tokens + tokens sent since the last news) / throughput + kv_weight·k/(1 − k); the first on a tie.

    SMG's `least_load.rs`; k is the observed KV usage. The credit for what was sent since a replica's last poll keeps arrivals
    between polls from herding on one. No news from a replica while others have some: in flight · mean prefill / throughput; no
    news at all: fewest in flight. Two differences: engines here tell how many wait, not their tokens, nor their throughput, so
    queued = waiting · mean prefill and throughput is the set one. Weakness: a poll that is late drops the credit for what it has
    not seen, a cached prefix counts as work, and running decodes show only as KV.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(DrainTimeSettings, context.parameters, "drain_time")
        self._drain_s = Tally(context.replica_ids)
        self._heard_s = Tally(context.replica_ids, -inf)
        self._decisions, self._dark = Prebuilt("shortest drain time"), Prebuilt("no news: fewest in flight")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        oldest_s = now_s - _STALE_POLLS * self._settings.poll_s
        heard_s = self._heard_s.of(replicas)
        if min(heard_s) >= oldest_s:
            return self._decisions[self._drain_s.least(replicas)]
        if max(heard_s) < oldest_s:
            return self._dark[min(replicas, key=lambda v: v.in_flight).replica_id]
        guessed_s = self._settings.mean_prefill_tokens / self._settings.tokens_per_s
        scores = [
            drain_s if at_s >= oldest_s else view.in_flight * guessed_s
            for view, drain_s, at_s in zip(replicas, self._drain_s.of(replicas), heard_s, strict=True)
        ]
        return self._decisions[replicas[scores.index(min(scores))].replica_id]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._drain_s.add(decision.replica_id, request.prompt.tokens / self._settings.tokens_per_s)

    def on_observation(self, replica: ReplicaView, now_s: float) -> None:
        settings, k = self._settings, min(max(replica.kv_used, 0.0), _FULLEST)
        queued_s = replica.waiting * settings.mean_prefill_tokens / settings.tokens_per_s
        self._drain_s.put(replica.replica_id, queued_s + settings.kv_weight_s * k / (1 - k))
        self._heard_s.put(replica.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._drain_s.keep(replica_ids)
        self._heard_s.keep(replica_ids, -inf)
        self._decisions.keep(replica_ids)
        self._dark.keep(replica_ids)
