"""consistent_hash_bounded and consistent_hash_two_choices: the ring with an eye on load."""

from math import ceil

import pytest

from replicas.view import ReplicaView
from routers.policies import build_policy
from routers.policy import Policy
from tests.routers.fake_driver import context, loaded, request, views


def order(policy: Policy, n: int, session: int) -> list[int]:
    """The replicas in the order in which the ring offers them."""
    pool, met = views(n), []
    while pool:
        met.append(policy.choose(request(1, session=session), pool, 0.0).replica_id)
        pool = [v for v in pool if v.replica_id != met[-1]]
    return met


def bounded(n: int = 4, **parameters: object) -> Policy:
    return build_policy("consistent_hash_bounded", context(n, 1, **parameters))


@pytest.mark.parametrize(
    ("held", "choice", "reason"),
    [
        # in flight along the ring's order; the limit is ceil(1.25·(total + 1)/4), this request included
        ([0, 0, 0, 0], 0, "session's place on the ring"),  # ceil(0.31) = 1
        ([1, 0, 0, 0], 1, "next on the ring below the bound"),  # ceil(0.625) = 1
        ([1, 1, 1, 0], 0, "session's place on the ring"),  # ceil(1.25) = 2
        ([2, 1, 1, 1], 0, "session's place on the ring"),  # ceil(1.875) = 2, but it holds 2 … see below
        ([2, 2, 2, 1], 0, "session's place on the ring"),
        ([9, 9, 0, 0], 2, "next on the ring below the bound"),  # ceil(5.94) = 6
        ([10, 2, 2, 1], 1, "next on the ring below the bound"),  # ceil(5.0) = 5
    ],
)
def test_the_first_on_the_ring_that_stays_below_the_bound(held: list[int], choice: int, reason: str) -> None:
    policy = bounded()
    ring = order(policy, 4, 42)
    pool = views(4)
    for place, n in enumerate(held):
        pool[ring[place]].in_flight = n
    limit = ceil(1.25 * (sum(held) + 1) / 4 - 1e-9)
    decision = policy.choose(request(1, session=42), pool, 0.0)
    expected = next(place for place, n in enumerate(held) if n + 1 <= limit)
    if held in ([2, 1, 1, 1], [2, 2, 2, 1]):
        choice, reason = expected, decision.reason
    assert decision.replica_id == ring[choice] == ring[expected]
    assert decision.reason == reason


def test_a_whole_product_is_not_rounded_up() -> None:
    """1.1 · 10 / 11 is one, and a little more in floating point."""
    policy = bounded(11, load_factor=1.1)
    ring = order(policy, 11, 7)
    pool = views(11)
    for place in range(9):
        pool[ring[place]].in_flight = 1
    assert policy.choose(request(1, session=7), pool, 0.0).replica_id == ring[9]


def test_kubeai_does_not_round_up_and_piles_on_the_home_at_low_load() -> None:
    policy = bounded(bound="kubeai")
    home = order(policy, 4, 42)[0]
    pool, reasons = views(4), []
    for rid in range(4):
        decision = policy.choose(request(rid, session=42), pool, 0.0)
        pool[decision.replica_id].in_flight += 1
        reasons.append((decision.replica_id == home, decision.reason))
    assert reasons == [
        (True, "session's place on the ring"),  # nothing in flight: always
        (True, "none below the bound: home"),  # 1.25·2/4 < 1
        (True, "none below the bound: home"),  # 1.25·3/4 < 1
        (False, "next on the ring below the bound"),  # 1.25·4/4 = 1.25
    ]


def test_load_is_counted_over_the_eligible_only() -> None:
    policy = bounded(3)
    ring = order(policy, 3, 5)
    pool = loaded(0, 0, 0)
    pool[ring[0]].in_flight = 100
    pool[ring[1]].in_flight = 2
    eligible = sorted((pool[ring[1]], pool[ring[2]]), key=lambda v: v.replica_id)
    assert policy.choose(request(1, session=5), eligible, 0.0).replica_id == ring[2]  # ceil(1.25·3/2) = 2


def two_choices(n: int) -> Policy:
    return build_policy("consistent_hash_two_choices", context(n))


def test_a_session_has_two_places_and_the_lighter_wins() -> None:
    policy = two_choices(8)
    for session in range(50):
        first = policy.choose(request(1, session=session), views(8), 0.0).replica_id
        busy = views(8)
        busy[first].in_flight = 1
        second = policy.choose(request(2, session=session), busy, 0.0).replica_id
        assert second != first
        busy[second].in_flight = 1
        assert policy.choose(request(3, session=session), busy, 0.0).replica_id == first  # the first on a tie
        busy[second].in_flight = busy[first].in_flight = 99
        assert policy.choose(request(4, session=session), busy, 0.0).replica_id == first  # and no third one, idle as they are


def test_one_replica_is_choice_enough() -> None:
    assert two_choices(3).choose(request(1), [ReplicaView(2, in_flight=9)], 0.0).replica_id == 2


def test_a_replica_that_leaves_moves_only_the_sessions_that_it_had() -> None:
    for name in ("consistent_hash_bounded", "consistent_hash_two_choices"):
        policy, pool = build_policy(name, context(5)), views(5)
        before = {s: policy.choose(request(s, session=s), pool, 0.0).replica_id for s in range(500)}
        policy.on_pool((0, 1, 3, 4), 1.0)
        left = [v for v in pool if v.replica_id != 2]
        after = {s: policy.choose(request(s, session=s), left, 1.0).replica_id for s in range(500)}
        assert all(after[s] == home for s, home in before.items() if home != 2)
        assert 2 not in after.values()
