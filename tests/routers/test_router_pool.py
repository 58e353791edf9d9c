"""Replicas that join and leave the router's pool, and pairs that are sent to both replicas at once."""

import pytest

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView, Role
from routers.factory import build_router
from routers.policies import POLICIES
from routers.policy import Decision, Policy
from routers.router import Router
from tests.routers.fake_driver import Always, FakeDriver, request, views
from tests.routers.test_router import RefuseAll, RetryOnce


class Pool(Always):
    """Writes down the pools it is told of."""

    def __init__(self, replica_id: int = 0) -> None:
        super().__init__(replica_id)
        self.pools: list[tuple[int, ...]] = []

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self.pools.append(replica_ids)


class Pair(Policy):
    """Prefill on 0, decode on 1."""

    def choose(self, request: object, replicas: object, now_s: float) -> Decision:
        return Decision(1, "pair", prefill_id=0)


def build(policy: Policy, n: int = 2, *guards: RetryOnce) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    router = driver.router = Router(policy, guards, views(n), driver)
    return router, driver


def test_a_replica_that_joins_is_shown_in_the_order_of_ids() -> None:
    policy = Pool()
    router, _ = build(policy)
    router.add(ReplicaView(7), 1.0)
    router.add(ReplicaView(5, healthy=False), 2.0)
    assert policy.pools == [(0, 1, 7), (0, 1, 5, 7)]
    router.on_request(request(1), 3.0)
    router.set_healthy(5, True, 3.0)
    router.on_request(request(2), 3.0)
    assert policy.shown == [[0, 1, 7], [0, 1, 5, 7]]
    assert [v.replica_id for v in router.views] == [0, 1, 5, 7]
    with pytest.raises(ValueError, match="replica 7 is in the pool already"):
        router.add(ReplicaView(7), 4.0)


def test_a_replica_that_leaves_gets_no_more_and_what_runs_there_ends_well() -> None:
    policy = Pool()
    router, driver = build(policy)
    router.on_request(request(1), 0.0)
    router.remove(0, 1.0)
    assert policy.pools == [(1,)]
    router.on_request(request(2), 2.0)
    assert driver.routes == [0, 1]
    router.set_healthy(0, False, 2.0)  # late news of it does no harm
    router.on_observation(0, Observation(1, 1, 0.5), 2.0)
    with pytest.raises(ValueError, match="in the pool already"):
        router.add(ReplicaView(0), 2.0)
    router.on_first_token(driver.sent[0].try_id, 2.5)
    router.on_try_end(driver.sent[0].try_id, True, 200, 3.0)
    assert driver.answers[1].ok
    assert [v.replica_id for v in router.views] == [1]
    router.add(ReplicaView(0), 4.0)
    with pytest.raises(ValueError, match="replica 9 is not in the pool"):
        router.remove(9, 4.0)


def test_an_empty_pool_answers_503_until_somebody_joins() -> None:
    router, driver = build(Pool(), 1)
    router.remove(0, 0.0)
    router.on_request(request(1), 0.0)
    assert driver.answers[1].status == 503
    router.add(ReplicaView(1), 1.0)
    router.on_request(request(2), 1.0)
    assert driver.routes == [1]


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"oracle"}))
def test_every_policy_survives_a_pool_that_changes(name: str) -> None:
    driver = FakeDriver()
    roles: list[Role] = ["prefill", "decode"] if POLICIES[name].knows_roles else []
    pool = views(4, roles * 2) if roles else views(3)
    profile = EngineProfile.load("h100-vllm-llama8b")
    router = driver.router = build_router(name, {}, [], pool, driver, 1, profile=profile)
    for rid in range(12):
        router.on_request(request(rid), float(rid))
        if rid == 3:
            router.remove(0, 3.5)
        if rid == 6:
            for i in (8, 9):
                router.add(ReplicaView(i, role=roles[i % 2] if roles else "both"), 6.5)
        if rid == 8:
            router.remove(1, 8.5)
            router.add(ReplicaView(11, role="decode" if roles else "both"), 8.5)
    in_pool = {v.replica_id for v in router.views}
    assert {t.replica_id for t in driver.sent if t.request.rid > 8} <= in_pool
    at = 0
    while at < len(driver.sent):  # ends of removed replicas' tries come late
        router.on_try_end(driver.sent[at].try_id, True, 200, 20.0)
        at += 1
    assert len(driver.answers) == 12
    for end in driver.answers.values():
        assert end.ok or (POLICIES[name].knows_roles and end.error == "the decode replica has left the pool")
    assert all(v.in_flight == v.in_flight_tokens == 0 for v in router.views)


def test_a_decode_replica_that_left_during_the_prefill_is_a_failure() -> None:
    router, driver = build(Pair(), 2, RetryOnce())
    router.on_request(request(1), 0.0)
    router.remove(1, 0.5)
    router.on_try_end(driver.last.try_id, True, 200, 1.0)
    assert (router.next_wake_s(), len(driver.sent)) == (2.0, 1)


def test_a_pair_sent_at_once_counts_at_both_replicas() -> None:
    guard = RetryOnce()
    router, driver = build(Pair(), 2, guard)
    router.pairs_together = True
    router.on_request(request(1, (1, 100), max_tokens=20), 0.0)
    pair = driver.last
    assert (pair.stage, pair.replica_id, pair.decision.prefill_id, len(driver.sent)) == ("pair", 1, 0, 1)

    def counts() -> list[tuple[int, int]]:
        return [(v.in_flight, v.in_flight_tokens) for v in router.views]

    assert counts() == [(1, 100), (1, 120)]
    router.on_prefilled(pair.try_id)
    router.on_prefilled(pair.try_id)
    assert counts() == [(0, 0), (1, 120)]
    router.on_first_token(pair.try_id, 1.0)
    router.on_try_end(pair.try_id, True, 200, 2.0)
    assert counts() == [(0, 0), (0, 0)]
    assert (driver.answers[1].ok, guard.ends[0].replica_id) == (True, 1)


@pytest.mark.parametrize(("at", "blamed"), [(None, 1), (0, 0)])
def test_a_failed_pair_frees_both_and_blames_one(at: int | None, blamed: int) -> None:
    guard = RetryOnce()
    router, driver = build(Pair(), 2, guard)
    router.pairs_together = True
    router.on_request(request(1), 0.0)
    router.on_try_end(driver.last.try_id, False, 503, 1.0, "no", at=at)
    assert [v.in_flight for v in router.views] == [0, 0]
    assert [end.replica_id for end in guard.ends] == [blamed]


def test_a_hang_up_frees_both_halves() -> None:
    router, driver = build(Pair())
    router.pairs_together = True
    router.on_request(request(1), 0.0)
    router.on_cancel(1, 1.0)
    assert [(v.in_flight, v.in_flight_tokens) for v in router.views] == [(0, 0), (0, 0)]
    assert driver.aborted == [driver.last.try_id]
    router.on_prefilled(driver.last.try_id)
    assert router.views[0].in_flight == 0


def test_a_refusal_names_the_guard() -> None:
    driver = FakeDriver()
    router = Router(Always(), [RetryOnce(), RefuseAll()], views(1), driver)
    router.on_request(request(1), 0.0)
    assert driver.answers[1].refused_by == 1
