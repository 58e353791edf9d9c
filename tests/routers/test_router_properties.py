"""Whatever happens in whatever order: nothing is lost, nothing twice, and every count returns to zero."""

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.view import Observation, ReplicaView
from routers.factory import build_router
from routers.policy import Decision, RoutedRequest
from routers.router import Router
from tests.routers.fake_driver import FakeDriver, request, views

POLICIES = ["random", "round_robin", "least_outstanding", "power_of_two", "consistent_hash", "cache_aware", "prequal", "pd_pair"]
GUARD_SETS: list[list[tuple[str, dict[str, object]]]] = [
    [],
    [("retry", {"exclude": "tried", "budget": 0.2})],
    [("queue", {"cap": 2, "order": "lifo", "deadline_s": 3.0, "max_length": 2, "drop": "old"}), ("retry", {"backoff_s": 0.0})],
    [
        ("retry", {"backoff_s": 1.0, "exclude": "last"}),
        ("breaker", {"failures": 2, "open_s": 4.0}),
        ("replica_queue", {"cap": 1, "deadline_s": 2.0, "max_length": 3}),
    ],
    [("replica_queue", {"cap": 2, "max_length": None}), ("queue", {"cap": 5}), ("breaker", {"failures": 1, "open_s": 2.0})],
]
EVENTS = (*["arrive"] * 5, "first token", "succeed", "fail", "hang up", "health", "observe", "probe", "wait", "wait")

steps = st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 7), st.integers(0, 7)), max_size=80)
cases = {"policy": st.sampled_from(POLICIES), "guards": st.sampled_from(GUARD_SETS), "refuse": st.sets(st.integers(0, 3))}


class Story:
    """Plays the steps against a router and knows what must be true of it."""

    def __init__(self, policy: str, guards: Sequence[tuple[str, dict[str, object]]], refuse: set[int], seed: int = 1) -> None:
        self.driver = FakeDriver()
        self.driver.refuse = refuse
        self.down: set[int] = set()
        pool = views(4, ["prefill", "prefill", "decode", "decode"] if policy == "pd_pair" else [])
        self.router: Router = build_router(policy, {}, guards, pool, self.driver, seed, on_decision=self.on_decision)
        self.driver.router = self.router
        self.now_s = 0.0
        self.arrived: set[int] = set()
        self.hung_up: set[int] = set()
        self.ended: set[int] = set()

    def on_decision(self, r: RoutedRequest, d: Decision, n: int, seen: Sequence[ReplicaView], now_s: float) -> None:
        ids = {v.replica_id for v in seen}
        assert d.replica_id in ids, "an ineligible replica was chosen"
        assert d.prefill_id is None or d.prefill_id in ids
        assert not ids & self.down

    def live(self) -> list[int]:
        gone = self.ended | set(self.driver.aborted)
        return [t.try_id for t in self.driver.sent if t.try_id not in gone and t.replica_id not in self.driver.refuse]

    def play(self, story: list[tuple[str, int, int]]) -> None:
        for event, a, b in story:
            self.step(event, a, b)
            self.check()

    def step(self, event: str, a: int, b: int) -> None:
        router, now_s, live = self.router, self.now_s, self.live()
        if event == "arrive":
            rid = len(self.arrived)
            self.arrived.add(rid)
            router.on_request(request(rid, (a, 50), (10 * a + b, 80), session=a, deadline_s=now_s + 20), now_s)
        elif event == "first token" and live:
            router.on_first_token(live[a % len(live)], now_s)
        elif event in ("succeed", "fail") and live:
            self.end(live[a % len(live)], event == "succeed", (0, 503, 429, 400)[b % 4])
        elif event == "hang up" and (open_ := sorted(self.arrived - self.hung_up - set(self.driver.answers))):
            self.hung_up.add(open_[a % len(open_)])
            router.on_cancel(open_[a % len(open_)], now_s)
        elif event == "health":
            (self.down.discard if b % 2 else self.down.add)(a % 4)
            router.set_healthy(a % 4, bool(b % 2), now_s)
        elif event == "observe":
            router.on_observation(a % 4, Observation(b, a, 0.5), now_s)
        elif event == "probe":
            router.on_probe(a % 4, Observation(b, a, 0.5, latency_s=0.1 * b), now_s)
        elif event == "wait":
            self.wait(now_s + a / 2)

    def end(self, try_id: int, ok: bool, status: int) -> None:
        self.ended.add(try_id)
        self.router.on_try_end(try_id, ok, 200 if ok else status, self.now_s)

    def wait(self, until_s: float) -> None:
        while (wake_s := self.router.next_wake_s()) <= until_s:
            self.now_s = max(self.now_s, wake_s)
            self.router.on_wake(self.now_s)
            assert self.router.next_wake_s() > self.now_s, "a wake that wakes for nothing would never end"
            self.check()
        self.now_s = until_s

    def check(self) -> None:
        live = set(self.live())
        for view in self.router.views:
            here = [t for t in self.driver.sent if t.try_id in live and t.replica_id == view.replica_id]
            assert view.in_flight == len(here)
            assert view.in_flight_tokens == sum(t.tokens for t in here)
        answered = set(self.driver.answers)
        assert not answered & self.hung_up, "nobody is answered after hanging up"
        assert self.router.open_requests == len(self.arrived - answered - self.hung_up)
        assert self.router.held_requests == sum(f.held_at >= 0 for f in self.router._flights.values())

    def finish(self) -> None:
        for _ in range(200):
            for try_id in self.live():
                self.end(try_id, True, 200)
            self.wait(self.now_s + 1.0)
            if not self.router.open_requests:
                break
        self.check()
        assert self.router.open_requests == 0
        assert all((v.in_flight, v.in_flight_tokens) == (0, 0) for v in self.router.views)
        for part in (self.router.policy, *self.router.guards):
            assert_forgotten(part)


def assert_forgotten(part: Any) -> None:
    """Whatever a guard or policy kept by request is gone."""
    for name in ("_inside", "_retrying", "_failed", "_at", "_granted", "_line"):
        assert not getattr(part, name, ()), f"{type(part).__name__}.{name} still knows requests"
    for name in ("_tries", "_pairs"):
        assert not any(getattr(part, name, {}).values())


@settings(max_examples=150, deadline=None)
@given(story=steps, **cases)
def test_counts_return_to_zero_in_any_order_of_events(
    story: list[tuple[str, int, int]], policy: str, guards: list[tuple[str, dict[str, object]]], refuse: set[int]
) -> None:
    played = Story(policy, guards, refuse)
    played.play(story)
    played.finish()


@settings(max_examples=40, deadline=None)
@given(story=steps, **cases)
def test_the_same_seed_and_the_same_inputs_give_the_same_decisions(
    story: list[tuple[str, int, int]], policy: str, guards: list[tuple[str, dict[str, object]]], refuse: set[int]
) -> None:
    routes = []
    for _ in range(2):
        played = Story(policy, guards, set(refuse))
        played.play(story)
        routes.append((played.driver.routes, played.driver.probed, sorted(played.driver.answers)))
    assert routes[0] == routes[1]
