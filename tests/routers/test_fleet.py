"""Several routers before one pool: each its share of the requests, its own counts and its own news."""

from dataclasses import replace

import pytest

from replicas.view import Observation, ReplicaView
from routers.factory import build_router
from routers.fleet import RouterFleet
from routers.policies import build_policy
from routers.router import Router
from routers.tries import Effects
from tests.routers.fake_driver import FakeDriver, context, request, views


def fleet_of(
    n: int, policy: str = "least_outstanding", replicas: int = 4
) -> tuple[RouterFleet, FakeDriver, list[tuple[int, int]]]:
    driver = FakeDriver()
    probes: list[tuple[int, int]] = []

    def build(effects: Effects, number: int, of: int) -> Router:
        return Router(build_policy(policy, context(replicas)), (), views(replicas), effects, number=number, of=of)

    fleet = RouterFleet(build, n, driver, lambda number, replica_id, now_s: probes.append((number, replica_id)), seed=7)
    return fleet, driver, probes


def test_each_member_sees_about_its_share_and_only_its_own_counts() -> None:
    fleet, driver, _ = fleet_of(4)
    for rid in range(4_000):
        fleet.on_request(request(rid), 0.0)
    shares = [m.open_requests for m in fleet.members]
    assert sum(shares) == len(driver.sent) == fleet.open_requests == 4_000
    assert all(900 <= share <= 1_100 for share in shares)
    for member, share in zip(fleet.members, shares, strict=True):
        assert sum(v.in_flight for v in member.views) == share


def test_ends_and_hang_ups_reach_the_router_that_sent() -> None:
    fleet, driver, _ = fleet_of(3)
    for rid in range(60):
        fleet.on_request(request(rid), 0.0)
    assert len({t.try_id for t in driver.sent}) == 60, "try ids are one number space"
    for attempt in driver.sent[:30]:
        fleet.on_first_token(attempt.try_id, 1.0)
        fleet.on_try_end(attempt.try_id, True, 200, 2.0)
    for rid in range(30, 60):
        fleet.on_cancel(rid, 2.0)
    fleet.on_cancel(59, 3.0)  # twice is nothing
    assert len(driver.answers) == len(driver.aborted) == 30
    assert fleet.open_requests == 0
    assert all(v.in_flight == 0 for m in fleet.members for v in m.views)
    assert not fleet._inside


def test_a_rid_that_is_inside_any_of_them_is_refused() -> None:
    fleet, _, _ = fleet_of(8)
    for rid in range(50):
        fleet.on_request(request(rid), 0.0)
        with pytest.raises(ValueError, match=f"rid {rid} is already in a router"):
            fleet.on_request(replace(request(rid), request_id=1_000 + rid), 0.0)  # it would go elsewhere
    for rid in range(50):
        fleet.on_cancel(rid, 1.0)
    assert fleet.open_requests == 0


def test_probes_are_asked_in_the_members_name_and_news_stays_with_it() -> None:
    fleet, _, probes = fleet_of(2, "prequal")
    for rid in range(20):
        fleet.on_request(request(rid), 0.0)
    assert {number for number, _ in probes} == {0, 1}
    fleet.members[0].on_observation(3, Observation(5, 6, 0.5), 1.0)
    assert [m.views[3].waiting for m in fleet.members] == [5, 0]


def test_two_routers_that_do_not_know_of_each_other_balance_worse_than_one() -> None:
    def spread(n: int) -> int:
        fleet, driver, _ = fleet_of(n)
        for rid in range(400):
            fleet.on_request(request(rid), 0.0)
        counts = [sum(t.replica_id == i for t in driver.sent) for i in range(4)]
        return max(counts) - min(counts)

    assert spread(1) == 0 < spread(8)


def test_halves_of_a_pair_reach_the_router_that_sent() -> None:
    driver = FakeDriver()

    def build(effects: Effects, number: int, of: int) -> Router:
        pool = [ReplicaView(0, role="prefill"), ReplicaView(1, role="decode")]
        router = build_router("pd_pair", {}, (), pool, effects, 1, number=number, of=of)
        router.pairs_together = True
        return router

    fleet = RouterFleet(build, 2, driver, lambda number, replica_id, now_s: None, seed=7)
    for rid in range(20):
        fleet.on_request(request(rid), 0.0)
    assert sum(v.in_flight for m in fleet.members for v in m.views) == 40
    for attempt in driver.sent:
        fleet.on_prefilled(attempt.try_id)
    assert [v.in_flight for m in fleet.members for v in m.views if v.role == "prefill"] == [0, 0]
    for attempt in driver.sent:
        fleet.on_try_end(attempt.try_id, False, 503, 1.0, at=0)
    assert sum(v.in_flight for m in fleet.members for v in m.views) == 0
