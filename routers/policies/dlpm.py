"""`dlpm`: fair among tenants, and within that each request goes where most of its prompt is cached. It guesses the caches."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.deficits import Deficits
from routers.choices.prebuilt import Prebuilt
from routers.guard import Guard
from routers.lines.fair_queue import FairQueueGuard, Head, places_of
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd
from routers.prefixes.block_index import ApproximateIndex, engine_block_tokens
from workloads.request import Prompt


@dataclass(frozen=True, slots=True)
class DlpmSettings:
    """Weights as VTC's. `tenant_quantum` and `replica_quantum` (token cost) are the paper's Q^u and Q^w; its values for them are
    unverified, ours are some requests' worth. `cap` and `max_length` as `fair_vtc`; `index_blocks` a replica are remembered
    (null: as many as its KV memory has, or 31,250)."""

    prompt_weight: float = 1.0
    output_weight: float = 2.0
    tenant_quantum: float = 8192.0
    replica_quantum: float = 8192.0
    cap: int | None = None
    max_length: int | None = None
    index_blocks: int | None = None

    def __post_init__(self) -> None:
        within("prompt_weight", self.prompt_weight, 0.0)
        within("output_weight", self.output_weight, 0.0)
        within("tenant_quantum", self.tenant_quantum, 1.0)
        within("replica_quantum", self.replica_quantum, 1.0)
        within("cap", self.cap, 1)
        within("max_length", self.max_length, 0)
        within("index_blocks", self.index_blocks, 1)


class LongestPrefixFirst:
    """DLPM's discipline: of the tenants with credit left, the request with the longest cached prefix; the earlier one on a tie.

    A request's prefix is matched once, when it joins its line.
    """

    def __init__(self, credit: Deficits, index: ApproximateIndex) -> None:
        self._credit, self._index = credit, index

    def rank(self, request: RoutedRequest, now_s: float) -> float:
        return -max(self._index.matched(request.prompt, now_s).values(), default=0)

    def enters(self, tenant: int, waiting: Collection[int]) -> None:
        """Credit and debt are kept while a tenant is away, and only those who wait are refilled."""

    def next_of(self, heads: Mapping[int, Head]) -> int:
        return min(self._credit.with_credit(heads), key=lambda tenant: heads[tenant])

    def leaves(self, tenant: int) -> None: ...


class Dlpm(Policy):
    """Double deficit longest prefix match, D²LPM (Cao et al., "Locality-aware Fair Scheduling in LLM Serving", arXiv 2501.14312).

    Queue: tenants spend credit, see `LongestPrefixFirst`. Replica: of those with room where the *tenant* still has credit, the
    one with the longest match; ties to the fewest in flight, then the lowest id. Credit with the tenant and with the replica pays
    for uncached prompt tokens when sent and for output tokens when ended (a try that was refused costs nothing); each is refilled
    by its quantum when none that competes has any left. A large replica quantum keeps locality, a small one spreads a tenant's
    load. The rule follows the paper's abstract and summaries of it; its pseudocode could not be looked up. In the paper the first
    queue stands in every engine, here in the router. Weakness: the caches are guessed from what was sent; what was answered
    before a hang-up is not charged; memory for every tenant ever seen.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(DlpmSettings, context.parameters, "dlpm")
        profile = context.profile
        blocks = self._settings.index_blocks or (31_250 if profile is None else profile.kv_blocks)
        self._cap = places_of(self._settings.cap, profile)
        self._index = ApproximateIndex(context.replica_ids, engine_block_tokens(profile), blocks, None)
        self._tenants = Deficits(self._settings.tenant_quantum)
        self._replicas: dict[int, Deficits] = {}  # tenant → its credit with each replica
        self._paid: dict[int, float] = {}  # rid → what its present try was charged when it was sent
        self._pool = frozenset(context.replica_ids)
        self._matched, self._unmatched = Prebuilt("longest match with credit"), Prebuilt("no match with credit: fewest in flight")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        cap = self._cap
        roomy = {v.replica_id: v.in_flight for v in replicas if v.in_flight < cap} or {
            v.replica_id: v.in_flight for v in replicas
        }
        matched = self._index.matched(request.prompt, now_s)
        able = self._credit_of(request.tenant).with_credit(roomy)
        best = min(able, key=lambda i: (-matched.get(i, 0), roomy[i]))
        return self._matched[best] if matched.get(best) else self._unmatched[best]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        new_tokens = request.prompt.tokens - self._cached(request.prompt, decision.replica_id, now_s)
        paid = self._paid[request.rid] = self._settings.prompt_weight * new_tokens
        self._spend(request.tenant, decision.replica_id, paid)
        self._index.sent(request.prompt, decision.replica_id, now_s)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        paid = self._paid.pop(request.rid, 0.0)
        given_back = paid if end.refused else 0.0
        self._spend(request.tenant, decision.replica_id, self._settings.output_weight * end.output_tokens - given_back)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._pool = frozenset(replica_ids)
        self._index.set_replicas(replica_ids)
        for credit in self._replicas.values():
            credit.keep(self._pool)
        self._matched.keep(self._pool)
        self._unmatched.keep(self._pool)

    def own_guard(self) -> Guard:
        return FairQueueGuard(LongestPrefixFirst(self._tenants, self._index), self._cap, self._settings.max_length)

    def _cached(self, prompt: Prompt, replica_id: int, now_s: float) -> int:
        return self._index.matched(prompt, now_s).get(replica_id, 0)

    def _credit_of(self, tenant: int) -> Deficits:
        credit = self._replicas.get(tenant)
        if credit is None:
            credit = self._replicas[tenant] = Deficits(self._settings.replica_quantum)
        return credit

    def _spend(self, tenant: int, replica_id: int, amount: float) -> None:
        self._tenants.spend(tenant, amount)
        if replica_id in self._pool:
            self._credit_of(tenant).spend(replica_id, amount)
