"""`fair_vtc`: the tenant that was served least is next, and goes where the fewest are in flight. It does not know prefixes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.guard import Guard
from routers.lines.fair_queue import FairQueueGuard, Head, places_of
from routers.parameters import settings_of, within
from routers.policies.least_outstanding import LeastOutstanding
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd


@dataclass(frozen=True, slots=True)
class FairVtcSettings:
    """The paper's weights: a prompt token costs 1, an output token 2; `tenant_weights[n]` divides what tenant n is charged (1
    where none is given).

    `expected_output_tokens` are charged at the start and put right at the end (0: all at the end). `cap`: the queue holds while
    every replica has so many in flight (null: as many as the engine runs at once, or 64 where it is unknown; ours). `max_length`
    waiting (null: no limit).
    """

    prompt_weight: float = 1.0
    output_weight: float = 2.0
    tenant_weights: tuple[int, ...] = ()
    expected_output_tokens: int = 0
    cap: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        within("prompt_weight", self.prompt_weight, 0.0)
        within("output_weight", self.output_weight, 0.0)
        within("expected_output_tokens", self.expected_output_tokens, 0)
        within("cap", self.cap, 1)
        within("max_length", self.max_length, 0)
        for weight in self.tenant_weights:
            within("tenant_weights", weight, 1)


class VirtualCounters:
    """A counter of service for each tenant. Nobody gains by staying away: who comes back is lifted to the least counter of those
    who wait, or, where nobody waits, to that of the tenant who left the queue last (the paper's Algorithm 2; its code, S-LoRA's
    `vtc_req_queue.py`, does the first only)."""

    def __init__(self) -> None:
        self.served: dict[int, float] = {}
        self._left_last: int | None = None

    def charge(self, tenant: int, amount: float) -> None:
        self.served[tenant] = self.served.get(tenant, 0.0) + amount

    def rank(self, request: RoutedRequest, now_s: float) -> float:
        """First come, first served within a tenant."""
        return 0.0

    def enters(self, tenant: int, waiting: Collection[int]) -> None:
        own, served = self.served.get(tenant, 0.0), self.served
        if waiting:
            own = max(own, min([served[t] for t in waiting]))
        elif self._left_last is not None:
            own = max(own, served[self._left_last])
        served[tenant] = own

    def next_of(self, heads: Mapping[int, Head]) -> int:
        """The least counter, the lowest tenant on a tie."""
        return min(heads, key=lambda tenant: (self.served[tenant], tenant))

    def leaves(self, tenant: int) -> None:
        self._left_last = tenant


class FairVtc(Policy):
    """Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024) as a queue at the router in
    front of `least_outstanding`.

    A tenant's counter grows by prompt tokens when a request is sent, and by its output tokens when it ends: engines tell a router
    no sooner (the paper counts each step, so it is fair within one batch; here within what is in flight). A try that was refused
    costs nothing. Weakness: all is in vain where requests wait in the engines' own queues before `cap` is reached (KV memory is
    full, say); what was answered before a hang-up is not charged; a counter is kept for every tenant ever seen.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(FairVtcSettings, context.parameters, "fair_vtc")
        self._cap = places_of(self._settings.cap, context.profile)
        self._counters = VirtualCounters()
        self._least = LeastOutstanding(PolicyContext(context.seed, context.replica_ids))

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        return self._least.choose(request, replicas, now_s)

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._charge(request, request.prompt.tokens, self._expected(request))

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        prompt_tokens = -request.prompt.tokens if end.refused else 0
        self._charge(request, prompt_tokens, end.output_tokens - self._expected(request))

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._least.on_pool(replica_ids, now_s)

    def own_guard(self) -> Guard:
        return FairQueueGuard(self._counters, self._cap, self._settings.max_length)

    def _expected(self, request: RoutedRequest) -> int:
        return min(request.max_tokens, self._settings.expected_output_tokens)

    def _charge(self, request: RoutedRequest, prompt_tokens: int, output_tokens: int) -> None:
        weights, tenant = self._settings.tenant_weights, request.tenant
        weight = weights[tenant] if 0 <= tenant < len(weights) else 1
        cost = self._settings.prompt_weight * prompt_tokens + self._settings.output_weight * output_tokens
        self._counters.charge(tenant, cost / weight)
