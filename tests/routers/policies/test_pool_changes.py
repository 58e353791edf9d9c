"""Replicas come and go while requests are under way: every rule of load, hash, session and fairness goes on with who is there."""

import pytest

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView, Role
from routers.factory import build_router
from routers.router import Router
from routers.tries import Try
from tests.routers.fake_driver import FakeDriver, request

PROFILE = EngineProfile.load("h100-vllm-llama8b")
PARAMETERS = ("prefill_parameters", "decode_parameters")
RULES: list[tuple[str, dict[str, object]]] = [
    ("random", {}),
    ("round_robin", {}),
    ("weighted_round_robin", {"weights": [3, 1]}),
    ("least_outstanding", {}),
    ("least_tokens", {}),
    ("drain_time", {}),
    ("power_of_two", {}),
    ("power_of_two_stale", {}),
    ("join_idle_queue", {"idle_below": 2}),
    ("prequal", {}),
    ("consistent_hash", {}),
    ("consistent_hash", {"away": "first"}),
    ("consistent_hash_bounded", {}),
    ("consistent_hash_bounded", {"bound": "kubeai"}),
    ("consistent_hash_two_choices", {}),
    ("rendezvous", {"weights": [1, 2]}),
    ("maglev", {"weights": [2, 1], "table_size": 101}),
    ("sticky_least_sessions", {}),
    ("session_affinity", {}),
    ("slo_aware", {}),
    ("bucket", {}),
    ("fair_vtc", {"cap": 3}),
    ("dlpm", {"cap": 3}),
    ("pd_pair", {"prefill_policy": "bucket", "decode_policy": "least_tokens"}),
    (
        "pd_pair",
        {"prefill_policy": "maglev", "prefill_parameters": {"table_size": 101}, "decode_policy": "sticky_least_sessions"},
    ),
    ("pd_conditional", {"local_below_tokens": 120, "local_below_share": None}),
]


class Life:
    """A pool in which something arrives, ends, joins, leaves, falls ill or recovers at each step, always the same way."""

    def __init__(self, name: str, parameters: dict[str, object]) -> None:
        self.driver = FakeDriver()
        self.pairs = name.startswith("pd_")
        self.pool = set(range(6))
        self.router: Router = build_router(
            name, parameters, [], [self.view(i) for i in self.pool], self.driver, 1, profile=PROFILE
        )
        self.driver.router = self.router
        self.ill: set[int] = set()
        self.ended: set[int] = set()
        self.next_id = 6

    def view(self, replica_id: int) -> ReplicaView:
        role: Role = "both" if not self.pairs else "prefill" if replica_id % 2 else "decode"
        return ReplicaView(replica_id, role)

    def step(self, n: int) -> None:
        now_s, router = float(n), self.router
        before = len(self.driver.sent)
        router.on_request(request(n, (n % 5, 60), (1000 + n, n % 97), session=n % 11), now_s)
        for attempt in self.driver.sent[before:]:
            assert attempt.replica_id in self.pool - self.ill
        for attempt in self.live()[: n % 3]:
            if attempt.stage != "prefill":
                router.on_first_token(attempt.try_id, now_s)
            self.ended.add(attempt.try_id)
            router.on_try_end(attempt.try_id, n % 7 != 0, 200 if n % 7 else 503, now_s, output_tokens=n % 13)
        if n % 10 == 3:
            self.pool.add(self.next_id)
            router.add(self.view(self.next_id), now_s)
            self.next_id += 1
        elif n % 10 == 7:
            gone = min(self.pool) if n % 20 == 7 else sorted(self.pool)[len(self.pool) // 2]
            self.pool.discard(gone)
            self.ill.discard(gone)
            router.remove(gone, now_s)
        elif n % 10 == 5:
            well = sorted(self.pool - self.ill)
            for replica_id in [*self.ill, well[n % len(well)]][:2]:
                (self.ill.discard if replica_id in self.ill else self.ill.add)(replica_id)
                router.set_healthy(replica_id, replica_id not in self.ill, now_s)
        for replica_id in sorted(self.pool)[:3]:
            router.on_observation(replica_id, Observation(n % 3, n % 5, (n % 10) / 10), now_s)
            router.on_probe(replica_id, Observation(n % 3, n % 5, 0.1, 0.01 * n), now_s)
        if router.next_wake_s() <= now_s:
            router.on_wake(now_s)

    def live(self) -> list[Try]:
        return [t for t in self.driver.sent if t.try_id not in self.ended]


@pytest.mark.parametrize(("name", "parameters"), RULES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(RULES)])
def test_who_is_chosen_is_in_the_pool_and_every_count_returns_to_zero(name: str, parameters: dict[str, object]) -> None:
    life = Life(name, parameters)
    for n in range(1, 240):
        life.step(n)
    router = life.router
    for replica_id in sorted(life.ill):
        router.set_healthy(replica_id, True, 300.0)
    while live := life.live():
        life.ended.add(live[0].try_id)
        router.on_try_end(live[0].try_id, True, 200, 300.0)
    assert router.open_requests == 0
    assert all((v.in_flight, v.in_flight_tokens) == (0, 0) for v in router.views)
    assert_empty(router.policy)
    assert {t.replica_id for t in life.driver.sent} - set(range(6)), "nobody of the new ones was ever used"


@pytest.mark.parametrize(("name", "parameters"), RULES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(RULES)])
def test_a_pool_may_be_replaced_whole_and_be_empty_in_between(name: str, parameters: dict[str, object]) -> None:
    life = Life(name, parameters)
    for n in range(1, 30):
        life.step(n)
    for replica_id in sorted(life.pool):
        life.router.remove(replica_id, 30.0)
    life.router.on_request(request(900), 30.0)
    for replica_id in range(100, 104):
        life.router.add(life.view(replica_id), 31.0)
    life.router.on_request(request(901), 31.0)
    where = {t.request.rid: t.replica_id for t in life.driver.sent}
    assert where[901] >= 100
    if name in ("fair_vtc", "dlpm"):
        assert where[900] >= 100  # its queue held it until somebody was there
    else:
        assert life.driver.answers[900].status == 503


def assert_empty(policy: object) -> None:
    """No request is left in the books of a policy, nor of the policies inside it."""
    for name in ("_at", "_books"):
        assert not len(getattr(policy, name, ())), f"{type(policy).__name__}.{name}"
    books = getattr(policy, "_books", None)
    if books is not None:
        assert not any(v for tally in (books.tokens, books.sequences, books.prefill_tokens) for v in tally.values)
    in_flight = getattr(policy, "_in_flight", None)
    assert in_flight is None or not any(in_flight.values)
    for stage in getattr(policy, "_stages", ()):
        assert_empty(stage.policy)
        assert stage._role == "prefill" or all(v.in_flight == v.in_flight_tokens == 0 for v in stage._shown.values())
