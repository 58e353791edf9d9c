"""What holds for every registered policy behind any guards, in any order of events, while the pool changes under it.

Two routers are fed alike. No policy picks a replica that is unhealthy, unknown, excluded or gone; both decide alike, so a
decision is a function of (seed, what was heard); indexes stay within their bounds; and when all requests have ended nothing
remembers any of them.
"""

from collections import deque
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView
from routers.books.tally import Tally
from routers.factory import build_router
from routers.guards import GUARDS
from routers.policies import POLICIES
from routers.policy import Decision, KvEvent, RoutedRequest
from routers.prefixes.held_blocks import HeldBlocks
from routers.prefixes.prefix_index import PrefixIndex
from routers.router import Router
from tests.routers.every_policy import FixedTruth, role_of
from tests.routers.fake_driver import FakeDriver
from workloads.request import Prompt, Segment

REPLICAS = 4
FIRST_RID = 7_000_000_000_000  # no other number looks like one
PROFILE = EngineProfile.load("h100-vllm-llama8b")
GuardSet = tuple[tuple[str, dict[str, object]], ...]

# Small enough to be full within a few requests
TIGHT: dict[str, dict[str, object]] = {
    "cache_aware": {"index_tokens": 150},
    "aibrix_prefix": {"index_blocks": 8, "ttl_s": 2.0},
    "epp_weighted": {"index_blocks": 8},
    "kv_cost": {"index_blocks": 8, "temperature": 0.5, "credit_decay": 1.0, "request_weight": 1.0},
    "lmetric": {"index_blocks": 8, "index": "exact"},
    "preble": {"index_blocks": 8, "window_requests": 5, "rebalance": 1.5},
}
TUNED: list[GuardSet] = [
    (),
    (("retry", {"exclude": "tried", "budget": 0.2}),),
    (("queue", {"cap": 2, "order": "lifo", "deadline_s": 3.0, "max_length": 2, "drop": "old"}), ("retry", {"backoff_s": 0.0})),
    (
        ("retry", {"backoff_s": 1.0, "exclude": "last"}),
        ("breaker", {"failures": 2, "open_s": 4.0}),
        ("replica_queue", {"cap": 1, "deadline_s": 2.0, "max_length": 3}),
    ),
    (("replica_queue", {"cap": 2, "max_length": None}), ("queue", {"cap": 5}), ("breaker", {"failures": 1, "open_s": 2.0})),
]
PREDICTING = {"slo_shed", "slo_aware"}  # cannot be built without the engine's profile
combined: st.SearchStrategy[GuardSet] = st.lists(st.sampled_from(sorted(GUARDS)), unique=True, max_size=3).map(
    lambda names: tuple((n, {}) for n in names)
)
guard_sets: st.SearchStrategy[GuardSet] = st.sampled_from(TUNED) | combined

small = st.integers(0, 7)


class Twin:
    """One of two routers that are fed alike, and what it asked its driver for."""

    def __init__(self, policy: str, parameters: dict[str, object], guards: GuardSet, profile: EngineProfile | None) -> None:
        self.driver = FakeDriver()
        self.gone: set[int] = set()  # unhealthy or not in the pool
        self.knows_roles = POLICIES[policy].knows_roles
        pool = [ReplicaView(i, role=role_of(policy, i)) for i in range(REPLICAS)]
        self.router: Router = build_router(
            policy, parameters, guards, pool, self.driver, 1, FixedTruth(), self.on_decision, profile
        )
        self.driver.router = self.router
        self.decisions: list[Decision] = []

    def on_decision(self, r: RoutedRequest, d: Decision, n: int, seen: Sequence[ReplicaView], now_s: float) -> None:
        ids = {v.replica_id for v in seen}
        assert d.replica_id in ids, f"{d} is not among {sorted(ids)}"
        assert d.prefill_id is None or d.prefill_id in ids
        assert not {d.replica_id, d.prefill_id} & self.gone
        excluded = self.router._flights[r.rid].exclude
        assert not excluded & {d.replica_id, d.prefill_id} or ids <= excluded or self.knows_roles, (
            "an excluded replica was chosen"
        )
        assert set(d.probes) <= {v.replica_id for v in self.router.views}
        self.decisions.append(d)

    def live(self) -> list[int]:
        """Tries under way, as the driver knows them."""
        return self.router._tries.ids


class PolicyMachine(RuleBasedStateMachine):
    """The policy is a class attribute: one machine for each."""

    policy: str

    @initialize(guards=guard_sets, tight=st.booleans(), profiled=st.booleans(), refuse=st.sets(small, max_size=2))
    def begin(self, guards: GuardSet, tight: bool, profiled: bool, refuse: set[int]) -> None:
        parameters = TIGHT.get(self.policy, {}) if tight else {}
        profile = PROFILE if profiled or self.policy in PREDICTING or any(name in PREDICTING for name, _ in guards) else None
        self.twins = [Twin(self.policy, dict(parameters), guards, profile) for _ in range(2)]
        self.indexes = [p for p in parts_of(self.one.policy) if isinstance(p, HeldBlocks | PrefixIndex)]
        for twin in self.twins:
            twin.driver.refuse = set(refuse)
        self.now_s = 0.0
        self.arrived = 0
        self.next_id = REPLICAS
        self.numbers: dict[int, int] = {}

    @property
    def one(self) -> Router:
        return self.twins[0].router

    @property
    def pool(self) -> list[int]:
        return [v.replica_id for v in self.one.views]

    # What may happen

    @rule(a=small, b=small, tenant=st.integers(0, 2))
    def arrive(self, a: int, b: int, tenant: int) -> None:
        prompt = Prompt.of((Segment(a, 50), Segment(10 * a + b, 80), Segment(200 + b, 33))[: 1 + b % 3])
        rid = FIRST_RID + self.arrived
        self.arrived += 1
        for twin in self.twins:
            request = RoutedRequest(rid, rid - FIRST_RID, 1, a, tenant, prompt, 40 + b, self.now_s + 20)
            twin.router.on_request(request, self.now_s)

    @precondition(lambda self: self.twins[0].live())
    @rule(a=small, output_tokens=st.integers(0, 60), status=st.sampled_from([200, 200, 200, 0, 503, 429, 400]))
    def end(self, a: int, output_tokens: int, status: int) -> None:
        for twin in self.twins:
            live = twin.live()
            twin.router.on_try_end(live[a % len(live)], status == 200, status, self.now_s, "", output_tokens, 16 * a)

    @precondition(lambda self: self.twins[0].live())
    @rule(a=small)
    def first_token(self, a: int) -> None:
        for twin in self.twins:
            live = twin.live()
            twin.router.on_first_token(live[a % len(live)], self.now_s)

    @precondition(lambda self: self.one.open_requests)
    @rule(a=small)
    def hang_up(self, a: int) -> None:
        inside = sorted(self.one._flights)
        for twin in self.twins:
            twin.router.on_cancel(inside[a % len(inside)], self.now_s)

    @rule(a=small, healthy=st.booleans())
    def health(self, a: int, healthy: bool) -> None:
        replica_id = self.pool[a % len(self.pool)]
        for twin in self.twins:
            (twin.gone.discard if healthy else twin.gone.add)(replica_id)
            twin.router.set_healthy(replica_id, healthy, self.now_s)

    @rule(a=small, waiting=small, running=small, used=st.integers(0, 4), age=st.integers(0, 3))
    def observe(self, a: int, waiting: int, running: int, used: int, age: int) -> None:
        replica_id = self.pool[a % len(self.pool)]
        for twin in self.twins:
            twin.router.on_observation(replica_id, Observation(waiting, running, used / 4), self.now_s, self.now_s - age)

    @rule(a=small, waiting=small, latency=small)
    def probe(self, a: int, waiting: int, latency: int) -> None:
        replica_id = self.pool[a % len(self.pool)]
        for twin in self.twins:
            twin.router.on_probe(replica_id, Observation(waiting, a, 0.5, 0.1 * latency), self.now_s)

    @rule(a=small, b=small, blocks=st.integers(0, 5), lost=st.sampled_from([0, 0, 0, 1]), cleared=st.booleans())
    def kv_event(self, a: int, b: int, blocks: int, lost: int, cleared: bool) -> None:
        replica_id = self.pool[a % len(self.pool)]
        number = self.numbers[replica_id] = self.numbers.get(replica_id, 0) + 1 + lost
        keys = Prompt.of((Segment(b, 50), Segment(10 * b + a, 80))).keys
        event = KvEvent(number, ((keys[0], 48), (keys[1], 16 * blocks)), cleared and bool(lost))
        for twin in self.twins:
            twin.router.on_kv_event(replica_id, event, self.now_s)

    @precondition(lambda self: len(self.pool) < 8)
    @rule()
    def join(self) -> None:
        new = self.next_id
        self.next_id += 1
        for twin in self.twins:
            twin.router.add(ReplicaView(new, role=role_of(self.policy, new)), self.now_s)

    @precondition(lambda self: len(self.pool) > 1)
    @rule(a=small)
    def leave(self, a: int) -> None:
        replica_id = self.pool[a % len(self.pool)]
        for twin in self.twins:
            twin.gone.add(replica_id)
            twin.router.remove(replica_id, self.now_s)

    @rule(half_seconds=st.integers(0, 7))
    def wait(self, half_seconds: int) -> None:
        self.pass_time(self.now_s + half_seconds / 2)

    def pass_time(self, until_s: float) -> None:
        while (wake_s := self.one.next_wake_s()) <= until_s:
            self.now_s = max(self.now_s, wake_s)
            for twin in self.twins:
                assert twin.router.next_wake_s() == wake_s
                twin.router.on_wake(self.now_s)
                assert twin.router.next_wake_s() > self.now_s, "a wake that wakes for nothing would never end"
        self.now_s = until_s

    # What holds

    @invariant()
    def both_decide_alike(self) -> None:
        if not hasattr(self, "twins"):
            return
        one, other = self.twins
        assert one.decisions == other.decisions
        assert (one.driver.routes, one.driver.aborted) == (other.driver.routes, other.driver.aborted)
        assert one.driver.probed == other.driver.probed
        assert {r: e.status for r, e in one.driver.answers.items()} == {r: e.status for r, e in other.driver.answers.items()}

    @invariant()
    def indexes_are_within_their_bounds(self) -> None:
        if not hasattr(self, "twins"):
            return
        for index in self.indexes:
            held, most = (index._blocks, index.max_blocks) if isinstance(index, HeldBlocks) else (index._tokens, index._capacity)
            assert set(held) <= set(self.pool), "who left is forgotten"
            assert all(0 <= n <= most for n in held.values())

    def teardown(self) -> None:
        if not hasattr(self, "twins"):
            return
        for _ in range(60):
            for twin in self.twins:
                for try_id in twin.live():
                    twin.router.on_try_end(try_id, True, 200, self.now_s, "", 5)
            self.pass_time(self.now_s + 1.0)
            if not self.one.open_requests:
                break
        self.both_decide_alike()
        for twin in self.twins:
            router = twin.router
            assert (router.open_requests, router.held_requests, router._tries.ids) == (0, 0, [])
            assert all((v.in_flight, v.in_flight_tokens) == (0, 0) for v in router.views)
        self.pass_time(self.now_s + 100.0)
        for owner in (self.one.policy, *self.one.guards):
            assert_nothing_is_remembered(owner)


# Numbers that count what is under way, by the name of their attribute
UNDER_WAY = {"_in_flight", "_tries", "prefill_tokens", "tokens", "sequences", "context_tokens", "_pairs"}


def assert_nothing_is_remembered(owner: object) -> None:
    """No part of a policy or guard knows a request any more, and every count of what is under way is back at zero."""
    for part in parts_of(owner):
        assert not isinstance(part, RoutedRequest), f"{type(owner).__name__} still holds {part}"
        if isinstance(part, int) and not isinstance(part, bool):
            assert not FIRST_RID <= part < FIRST_RID + 1_000_000, f"{type(owner).__name__} still knows rid {part}"
        for name in UNDER_WAY & set(attributes_of(part)):
            counts = attributes_of(part)[name]
            values = counts.values if isinstance(counts, Tally) else counts.values() if isinstance(counts, dict) else ()
            assert all(abs(float(n)) < 1e-6 for n in values), f"{type(part).__name__}.{name} is not back at zero: {counts}"


def attributes_of(thing: object) -> dict[str, object]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return {**{name: getattr(thing, name) for name in slots if hasattr(thing, name)}, **getattr(thing, "__dict__", {})}


def parts_of(owner: object) -> Iterator[object]:
    """Everything that a policy or guard holds, however deep: attributes, items, keys and values."""
    met: set[int] = set()
    left = [owner]
    while left:
        part = left.pop()
        if id(part) in met or isinstance(part, str | bytes | float | type) or callable(part):
            continue
        met.add(id(part))
        yield part
        if isinstance(part, dict):
            left += [*part.keys(), *part.values()]
        if isinstance(part, list | tuple | set | frozenset | deque):
            left += [*part]
        if type(part).__module__.startswith("routers."):
            left += attributes_of(part).values()


@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_behind_any_guards_in_any_order_of_events(policy: str) -> None:
    machine = type(f"Machine_{policy}", (PolicyMachine,), {"policy": policy})
    run_state_machine_as_test(machine, settings=settings(max_examples=12, stateful_step_count=40, deadline=None))


def test_all_policies_with_a_small_index_are_covered() -> None:
    assert TIGHT.keys() <= POLICIES.keys()
