"""aibrix_prefix: the greatest match in whole percent among those with at most mean + 1σ requests."""

import pytest

from routers.policies import build_policy
from routers.policies.aibrix_prefix import AibrixPrefix, _deviation
from tests.routers.fake_driver import context, loaded, request

FIRST, SECOND = (1, 320), (2, 320)  # 20 blocks each


def taught(n: int = 4, **parameters: object) -> AibrixPrefix:
    """Replica 1 was sent the first half of a prompt, replica 2 all of it."""
    policy = build_policy("aibrix_prefix", context(n, 1, **parameters))
    assert isinstance(policy, AibrixPrefix)
    policy._index.sent(request(0, FIRST).prompt, 1, 0.0)
    policy._index.sent(request(0, FIRST, SECOND).prompt, 2, 0.0)
    return policy


@pytest.mark.parametrize(
    ("in_flight", "prompt", "chosen", "reason"),
    [
        ((0, 0, 0, 0), [FIRST, SECOND], 2, "prefix match"),  # 100% against 50%
        ((0, 0, 3, 0), [FIRST], 1, "prefix match"),  # both 100%: the fewer requests
        ((1, 1, 1, 9), [FIRST, SECOND], 2, "prefix match"),
        ((0, 0, 4, 0), [FIRST, SECOND], 1, "prefix match"),  # 4 > 1 + 2 (mean + σ): the lesser match
        ((0, 4, 4, 0), [FIRST, SECOND], 2, "prefix match"),  # 4 ≤ 2 + 2.31
        ((3, 3, 4, 3), [FIRST, SECOND], 1, "prefix match"),  # 4 > 3.25 + 0.5
        ((2, 7, 7, 9), [(9, 320)], 0, "no match: fewest requests"),
        ((2, 3, 3, 3), [(9, 15)], 0, "no match: fewest requests"),
    ],
)
def test_the_best_match_that_is_not_too_busy(
    in_flight: tuple[int, ...], prompt: list[tuple[int, int]], chosen: int, reason: str
) -> None:
    decision = taught().choose(request(1, *prompt), loaded(*in_flight), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_all_matches_too_busy_goes_to_the_fewest_requests() -> None:
    decision = taught(6).choose(request(1, FIRST), loaded(0, 5, 5, 1, 1, 1), 0.0)  # mean 2.17 + σ 2.23 < 5
    assert (decision.replica_id, decision.reason) == (0, "match is too busy: fewest requests")


def test_matches_differ_by_whole_percent() -> None:
    policy = taught()
    policy._index.sent(request(0, (5, 3200)).prompt, 0, 0.0)
    policy._index.sent(request(0, (5, 3200), (6, 16)).prompt, 3, 0.0)  # 201 blocks of 400: 50% as 200 are
    decisions = [policy.choose(request(i, (5, 3200), (6, 16), (i + 50, 3184)), loaded(0, 0, 0, 0), 0.0) for i in range(40)]
    assert {d.replica_id for d in decisions} == {0, 3}  # drawn


@pytest.mark.parametrize(
    ("imbalance", "in_flight", "chosen", "reason"),
    [
        # max > 2·(mean + 1) and max − min ≥ 8: only the least loaded may match
        ("factor", (0, 0, 8, 1), 1, "prefix match"),  # 8 > 2·3.25; replica 1 is among the least
        ("factor", (0, 1, 9, 1), 0, "out of balance: fewest requests"),  # neither match is among the least
        ("factor", (1, 1, 8, 1), 1, "prefix match"),  # a gap of 7 is balanced, but 8 > mean + σ
        ("factor", (20, 20, 30, 20), 1, "prefix match"),  # 30 ≤ 2·23.5
        # earlier releases: max − min > 8
        ("gap", (0, 1, 8, 1), 1, "prefix match"),
        ("gap", (0, 1, 9, 1), 0, "out of balance: fewest requests"),
        ("gap", (11, 20, 20, 20), 0, "out of balance: fewest requests"),
    ],
)
def test_out_of_balance(imbalance: str, in_flight: tuple[int, ...], chosen: int, reason: str) -> None:
    decision = taught(imbalance=imbalance).choose(request(1, FIRST, SECOND), loaded(*in_flight), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_it_remembers_what_it_sent_for_twenty_minutes() -> None:
    policy, pool = taught(), loaded(0, 0, 0, 0)
    decision = policy.choose(request(1, (7, 320)), pool, 0.0)
    policy.on_sent(request(1, (7, 320)), decision, 0.0)
    later = policy.choose(request(2, (7, 320)), pool, 1199.0)
    assert (later.replica_id, later.reason) == (decision.replica_id, "prefix match")
    assert policy.choose(request(3, (7, 320)), pool, 1200.0).reason == "no match: fewest requests"


def test_a_replica_that_leaves_the_pool_is_forgotten() -> None:
    policy, pool = taught(), loaded(0, 0, 0, 0)
    policy.on_pool((0, 1, 3), 0.0)
    assert policy.choose(request(1, FIRST, SECOND), [pool[0], pool[1], pool[3]], 0.0).replica_id == 1


@pytest.mark.parametrize(("loads", "sigma"), [((3,), 0.0), ((1, 1, 1), 0.0), ((0, 2), 2**0.5), ((0, 0, 4, 0), 2.0)])
def test_sigma_is_the_samples(loads: tuple[int, ...], sigma: float) -> None:
    assert _deviation(loads, sum(loads)) == pytest.approx(sigma)
