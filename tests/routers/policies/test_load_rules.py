"""round_robin, random, least_outstanding and power_of_two: each case reads as the rule."""

from collections import Counter

import pytest

from routers.policies import build_policy
from tests.routers.fake_driver import context, loaded, request, views

N = 4000


def test_round_robin_takes_each_in_turn_and_skips_who_is_away() -> None:
    policy, pool = build_policy("round_robin", context(3)), views(3)
    assert [policy.choose(request(i), pool, 0.0).replica_id for i in range(5)] == [0, 1, 2, 0, 1]
    assert [policy.choose(request(i), [pool[0], pool[2]], 0.0).replica_id for i in range(4)] == [2, 0, 2, 0]


def test_random_gives_each_its_share_whatever_the_load() -> None:
    policy, pool = build_policy("random", context(4)), loaded(0, 9, 99, 999)
    counts = Counter(policy.choose(request(i), pool, 0.0).replica_id for i in range(N))
    assert sum((n - N / 4) ** 2 / (N / 4) for n in counts.values()) < 16.3  # chi-square, 3 degrees, p = 0.001
    assert set(counts) == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["random", "power_of_two", "least_outstanding"])
def test_a_draw_depends_on_the_request_and_the_seed_only(name: str) -> None:
    pool = views(8)

    def routes(seed: int, rids: range) -> dict[int, int]:
        policy = build_policy(name, context(8, seed))
        return {i: policy.choose(request(i), pool, 0.0).replica_id for i in rids}

    every, some = routes(1, range(200)), routes(1, range(100, 200, 7))
    assert all(every[i] == chosen for i, chosen in some.items())  # others' draws move nothing
    assert routes(2, range(200)) != every


@pytest.mark.parametrize("name", ["random", "power_of_two", "least_outstanding"])
def test_the_next_attempt_of_a_request_draws_anew(name: str) -> None:
    policy, pool = build_policy(name, context(8)), views(8)
    first = [policy.choose(request(i), pool, 0.0).replica_id for i in range(200)]
    second = [policy.choose(request(i, attempt=2), pool, 0.0).replica_id for i in range(200)]
    assert 0.05 < sum(a == b for a, b in zip(first, second, strict=True)) / 200 < 0.25  # 1/8 by chance


@pytest.mark.parametrize(
    ("in_flight", "allowed"),
    [
        ((5, 3, 4), {1}),
        ((0, 0, 0), {0, 1, 2}),
        ((2, 1, 1), {1, 2}),
        ((7,), {0}),
    ],
)
def test_least_outstanding_takes_the_fewest_in_flight_with_ties_at_random(in_flight: tuple[int, ...], allowed: set[int]) -> None:
    policy = build_policy("least_outstanding", context(len(in_flight)))
    assert {policy.choose(request(i), loaded(*in_flight), 0.0).replica_id for i in range(60)} == allowed


def test_least_outstanding_breaks_ties_evenly() -> None:
    policy, pool = build_policy("least_outstanding", context(4)), loaded(1, 0, 0, 0)
    counts = Counter(policy.choose(request(i), pool, 0.0).replica_id for i in range(N))
    assert sum((n - N / 3) ** 2 / (N / 3) for n in counts.values()) < 13.8  # chi-square, 2 degrees, p = 0.001


def test_power_of_two_wins_by_rank() -> None:
    """Of two distinct among n, the replica with k lighter ones above it wins if its partner is heavier: (n-1-k) of n(n-1)/2."""
    policy, pool = build_policy("power_of_two", context(4)), loaded(3, 1, 0, 2)
    counts = Counter(policy.choose(request(i), pool, 0.0).replica_id for i in range(N))
    expected = {2: 3 / 6, 1: 2 / 6, 3: 1 / 6}  # replica 0 is the heaviest of any pair
    assert set(counts) == set(expected)
    assert sum((counts[i] - N * p) ** 2 / (N * p) for i, p in expected.items()) < 13.8


def test_power_of_two_is_fair_when_idle_and_needs_no_second_replica() -> None:
    policy = build_policy("power_of_two", context(4))
    counts = Counter(policy.choose(request(i), views(4), 0.0).replica_id for i in range(N))
    assert sum((n - N / 4) ** 2 / (N / 4) for n in counts.values()) < 16.3
    assert policy.choose(request(1), loaded(5), 0.0).replica_id == 0
