"""WHERE a request goes: the types every policy shares. A policy does no I/O and never sleeps; time is handed in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView
from workloads.request import Prompt

if TYPE_CHECKING:
    from routers.guard import Guard


@dataclass(slots=True)  # not frozen: that would take three times as long to make, once an attempt; nobody writes to it
class RoutedRequest:
    """What a router may know of one client attempt. Never the true output length.

    `rid` is unique per client attempt; (`request_id`, `client_attempt`, `router_try`) key its random draws. `deadline_s` is
    absolute. `router_try` is set by the router: 1, and one more for each retry of its own.
    """

    rid: int
    request_id: int
    client_attempt: int
    session_key: int
    tenant: int
    prompt: Prompt
    max_tokens: int
    deadline_s: float
    router_try: int = 1


class NoReplica(Exception):
    """Raised by `choose` when the eligible replicas cannot serve it (a PD pair lacks a role); the router answers 503."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The replica chosen, and why. `prefill_id` names the prefill replica of a PD pair; `probes` asks the router to probe."""

    replica_id: int
    reason: str = ""
    prefill_id: int | None = None
    probes: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TryEnd:
    """How one try at a replica ended. `status` is the HTTP status or 0 (connection lost, or the client hung up).

    `output_tokens`: answered until then; `cached_tokens`: of the prompt, by the replica's own word (None: it said nothing).
    """

    ok: bool
    status: int
    replica_id: int
    router_try: int
    streaming: bool = False
    output_tokens: int = 0
    cached_tokens: int | None = None

    @property
    def refused(self) -> bool:
        """It was answered with an error's status before any token: what was asked for it is due to nobody."""
        return not self.ok and not self.streaming and self.status > 0


@dataclass(frozen=True, slots=True)
class KvEvent:
    """A replica's word on a change of its prefix cache.

    `number` counts up by one a replica, so a lost event shows as a gap. `now_cached` holds (prefix key, tokens): of the segment
    that the key ends with, so many leading tokens are cached from now on (0: forgotten). `cleared`: all was forgotten first.
    """

    number: int
    now_cached: tuple[tuple[int, int], ...] = ()
    cleared: bool = False


class Policy:
    """A routing rule: override `choose`; every hook may stay as it is.

    `replicas` holds the eligible ones only (healthy, not excluded, in ascending id) and is never empty. Draw random numbers
    with `workloads.draws.uniform(seed, …)` keyed by the request, never from a shared stream. `knows_roles`: it can serve
    a pool of prefill and decode replicas. `wants_kv_events`: it is told of `on_kv_event`.
    """

    knows_roles = False
    wants_kv_events = False

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        raise NotImplementedError

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None: ...

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None: ...

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        """The decision's last try has ended (a pair's failed prefill, or its decode), or its client hung up."""

    def on_observation(self, replica: ReplicaView, now_s: float) -> None: ...

    def on_probe(self, replica_id: int, seen: Observation, now_s: float) -> None: ...

    def on_kv_event(self, replica_id: int, event: KvEvent, now_s: float) -> None: ...

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        """The pool has changed: these replicas (ascending, healthy or not) are in it from now on."""

    def own_guard(self) -> "Guard | None":
        """A guard that belongs to the rule (a fair queue, say): it stands after all others, right before `choose`."""
        return None

    def next_wake_s(self) -> float:
        return float("inf")

    def on_wake(self, now_s: float) -> tuple[int, ...]:
        """Called at `next_wake_s`; returns replicas to probe now."""
        return ()


class Truth(Protocol):
    """The true state of the pool, in virtual time only; `oracle` is the one policy that is given it."""

    def predicted_ttft_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float: ...

    def predicted_e2e_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float: ...


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """What a policy is built with. `profile`: the pool's engine, for rules that predict (None: unknown)."""

    seed: int
    replica_ids: tuple[int, ...]
    parameters: dict[str, object] = field(default_factory=dict)
    truth: Truth | None = None
    profile: EngineProfile | None = None
