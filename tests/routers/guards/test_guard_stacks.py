"""Any stack of guards, in any order, under any order of events: nothing is lost, nothing twice, and every count goes to zero."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.profile import EngineProfile
from routers.factory import build_router
from routers.guards import GUARDS
from routers.guards.gateway_queue import GatewayQueueGuard
from tests.routers.fake_driver import FakeDriver, views
from tests.routers.test_router_properties import Story, steps

VARIANTS: dict[str, list[dict[str, object]]] = {
    "retry": [
        {"exclude": "tried", "budget": 0.2},
        {"backoff_s": 0.0, "bucket": 2.0},
        {"backoff_s": 1.0, "exclude": "last", "max_attempts": 3},
    ],
    "queue": [{"cap": 2, "order": "lifo", "deadline_s": 3.0, "max_length": 2, "drop": "old"}, {"cap": 5, "order": "adaptive"}],
    "replica_queue": [
        {"cap": 1, "deadline_s": 2.0, "max_length": 3},
        {"cap": None, "max_length": None, "order": "adaptive", "lifo_above": 1},
        {"cap": None, "codel_target_s": 0.5, "codel_interval_s": 1.0},
    ],
    "gateway_queue": [{"max_concurrent": 2}, {"max_concurrent": 1, "queue_size": 0, "tokens_per_s": 3}],
    "breaker": [{"failures": 2, "open_s": 4.0}, {"failures": 1, "open_s": 2.0, "half_open_tries": 1, "on_4xx": "failure"}],
    "ejection": [
        {"failures": 1, "interval_s": 1.0, "ejection_s": 2.0, "slow_start_s": 3.0},
        {"failures": 2, "max_ejected": 1.0, "rate_requests": 1, "rate_replicas": 2, "failure_share": 0.5, "share_requests": 1},
    ],
    "client_throttle": [{}, {"k": 1.0, "window_s": 5.0}],
    "concurrency": [{"per_replica": 1}, {"per_replica": 2, "pool": 3}],
    "adaptive_concurrency": [
        {"initial": 1, "least": 1, "window_s": 0.0},
        {"per": "replica", "signal": "e2e", "initial": 1, "least": 1, "most": 2, "window_s": 0.0},
        {"algorithm": "envoy", "least": 1, "min_requests": 1, "min_interval_s": 2.0, "window_s": 0.5},
    ],
    "token_backlog": [{"per_replica": 150}, {"per_replica": None, "pool": 300}],
    "slo_shed": [{"ttft_s": 0.05}, {"ttft_s": None}],
    "timeout": [{"first_token_s": 1.0}, {"first_token_s": 2.0, "total_s": 3.0, "orphan": True}],
}
BY_REQUEST = ("_inside", "_retrying", "_failed", "_line", "_places", "_waiting", "_sent_s", "_sent")
PROFILE = EngineProfile.load("h100-vllm-llama8b")

variants = st.one_of([st.tuples(st.just(name), st.sampled_from(them)) for name, them in VARIANTS.items()])
stacks = st.lists(variants, min_size=1, max_size=5)
policies = st.sampled_from(["least_outstanding", "consistent_hash", "random", "pd_pair"])


class Orphanage(FakeDriver):
    def __init__(self) -> None:
        super().__init__()
        self.orphans: set[int] = set()

    def orphan(self, try_id: int, now_s: float) -> None:
        self.orphans.add(try_id)


class Stacked(Story):
    """A story behind any stack; guards may predict, and give up."""

    def __init__(self, policy: str, guards: list[tuple[str, dict[str, object]]], refuse: set[int]) -> None:
        super().__init__(policy, [], refuse)
        self.driver: Orphanage = Orphanage()
        self.driver.refuse = refuse
        pool = views(4, ["prefill", "prefill", "decode", "decode"] if policy == "pd_pair" else [])
        decided = self.on_decision
        self.router = build_router(policy, {}, guards, pool, self.driver, 1, on_decision=decided, profile=PROFILE)
        self.driver.router = self.router

    def live(self) -> list[int]:
        return [try_id for try_id in super().live() if try_id not in self.driver.orphans]

    def finish(self) -> None:
        super().finish()
        for guard in self.router.guards:
            assert_forgotten(guard)


def assert_forgotten(guard: Any) -> None:
    for name in BY_REQUEST:
        assert not getattr(guard, name, ()), f"{type(guard).__name__}.{name} still knows requests"
    places = getattr(guard, "_places", None)
    assert places is None or (places.sent, places.granted) == (0, 0)


def test_every_guard_has_a_variant_and_is_looked_at() -> None:
    assert set(VARIANTS) == set(GUARDS)


@settings(max_examples=250, deadline=None)
@given(story=steps, policy=policies, guards=stacks, refuse=st.sets(st.integers(0, 3)))
def test_counts_return_to_zero_under_any_stack(
    story: list[tuple[str, int, int]], policy: str, guards: list[tuple[str, dict[str, object]]], refuse: set[int]
) -> None:
    played = Stacked(policy, guards, refuse)
    played.play(story)
    played.finish()


@settings(max_examples=80, deadline=None)
@given(story=steps, policy=policies, guards=stacks, refuse=st.sets(st.integers(0, 3)))
def test_a_stack_is_a_function_of_seed_and_inputs(
    story: list[tuple[str, int, int]], policy: str, guards: list[tuple[str, dict[str, object]]], refuse: set[int]
) -> None:
    outcomes = []
    for _ in range(2):
        played = Stacked(policy, guards, set(refuse))
        played.play(story)
        outcomes.append((played.driver.routes, [(r, e.status) for r, e in sorted(played.driver.answers.items())]))
    assert outcomes[0] == outcomes[1]


@settings(max_examples=150, deadline=None)
@given(story=steps, limit=st.sampled_from(["concurrency", "replica_queue"]), refuse=st.sets(st.integers(0, 3)))
def test_a_limit_is_never_exceeded(story: list[tuple[str, int, int]], limit: str, refuse: set[int]) -> None:
    parameters: dict[str, object] = {"per_replica": 2, "pool": 5} if limit == "concurrency" else {"cap": 2}
    played = Stacked("consistent_hash", [("retry", {}), (limit, parameters)], refuse)
    for event, a, b in story:
        played.step(event, a, b)
        played.check()
        assert max(v.in_flight for v in played.router.views) <= 2
        assert limit == "replica_queue" or sum(v.in_flight for v in played.router.views) <= 5


@settings(max_examples=60, deadline=None)
@given(story=steps)
def test_the_gateway_s_bucket_never_holds_more_than_its_size(story: list[tuple[str, int, int]]) -> None:
    played = Stacked("random", [("gateway_queue", {"max_concurrent": 2})], set())
    guard = played.router.guards[0]
    assert isinstance(guard, GatewayQueueGuard)
    for event, a, b in story:
        played.step(event, a, b)
        assert 0 <= guard._tokens <= 2
