"""cache_aware: SGLang's rule, case by case, with the loads and shares that decide it."""

import pytest

from routers.policies import build_policy
from routers.policy import Policy
from tests.routers.fake_driver import context, loaded, request, views

SYSTEM = (1, 30)


def taught(n: int = 3, **parameters: object) -> Policy:
    """Replica 2 was sent the system prompt and a question of 70 tokens."""
    policy = build_policy("cache_aware", context(n, 1, **parameters))
    assert policy.choose(request(0, SYSTEM, (2, 70)), loaded(5, 5, 0), 0.0).replica_id == 2
    return policy


@pytest.mark.parametrize(
    ("defaults", "prompt", "chosen", "reason"),
    [
        ("wheel", [SYSTEM, (2, 70)], 2, "prefix match"),  # 100 of 100
        ("wheel", [SYSTEM, (3, 69)], 2, "prefix match"),  # 30 of 99 > 0.3
        ("wheel", [SYSTEM, (3, 70)], 0, "no match: least load"),  # 30 of 100 is not above 0.3
        ("smg", [SYSTEM, (3, 29)], 2, "prefix match"),  # 30 of 59 > 0.5
        ("smg", [SYSTEM, (3, 30)], 0, "no match: least load"),  # 30 of 60 is not above 0.5
        ("wheel", [(9, 100)], 0, "no match: least load"),
    ],
)
def test_a_share_above_the_threshold_goes_where_the_prefix_is(
    defaults: str, prompt: list[tuple[int, int]], chosen: int, reason: str
) -> None:
    decision = taught(defaults=defaults).choose(request(1, *prompt), loaded(0, 1, 1), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


@pytest.mark.parametrize(
    ("defaults", "in_flight", "balanced"),
    [
        ("wheel", (0, 0, 64), True),  # 64 - 0 is not above 64
        ("wheel", (0, 0, 65), False),
        ("wheel", (130, 130, 195), True),  # 195 is not above 1.5 · 130
        ("wheel", (130, 130, 196), False),
        ("smg", (0, 0, 32), True),
        ("smg", (0, 0, 33), False),
        ("smg", (400, 400, 440), True),  # 440 is not above 1.1 · 400
        ("smg", (400, 400, 441), False),
    ],
)
def test_out_of_balance_takes_both_thresholds(defaults: str, in_flight: tuple[int, ...], balanced: bool) -> None:
    decision = taught(defaults=defaults).choose(request(1, SYSTEM, (2, 70)), loaded(*in_flight), 0.0)
    assert decision.replica_id == (2 if balanced else 0)
    assert decision.reason == ("prefix match" if balanced else "out of balance: least load")


def test_single_thresholds_override_the_set() -> None:
    policy = taught(defaults="smg", threshold=0.2, abs=1000)
    assert policy.choose(request(1, SYSTEM, (3, 100)), loaded(0, 0, 999), 0.0).replica_id == 2  # 30 of 130 > 0.2


def test_it_inserts_either_way() -> None:
    policy = taught()
    policy.choose(request(1, (7, 100)), loaded(0, 0, 0), 0.0)  # no match: least load, and remembered there
    assert policy.choose(request(2, (7, 100)), loaded(9, 0, 0), 0.0).reason == "prefix match"
    policy.choose(request(3, (7, 100)), loaded(100, 0, 0), 0.0)  # out of balance: replica 1 gets it too
    assert policy.choose(request(4, (7, 100)), loaded(0, 9, 0), 0.0).replica_id == 1


def test_an_idle_pool_is_pinned_to_one_replica() -> None:
    """Measured on both wheels: 80 of 80 distinct conversations went to one replica while idle (POLICIES fact 5)."""
    policy, pool = build_policy("cache_aware", context(4)), views(4)
    assert {policy.choose(request(i), pool, 0.0).replica_id for i in range(80)} == {0}


def test_a_match_that_is_away_goes_to_the_first_in_order_and_is_not_remembered_there() -> None:
    policy, pool = taught(), loaded(9, 0, 0)
    gone = policy.choose(request(1, SYSTEM, (2, 70)), pool[:2], 0.0)
    assert (gone.replica_id, gone.reason) == (0, "match is away: first in order")
    assert policy.choose(request(2, SYSTEM, (2, 70)), pool, 0.0).replica_id == 2


def test_the_index_forgets_the_oldest_beyond_its_size() -> None:
    policy = build_policy("cache_aware", context(1, 1, index_tokens=250))
    pool = views(1)
    reasons = [policy.choose(request(i, (c, 100)), pool, 0.0).reason for i, c in enumerate([1, 2, 1, 3, 1, 2])]
    assert [r == "prefix match" for r in reasons] == [False, False, True, False, True, False]


def test_a_replica_that_leaves_the_pool_is_forgotten() -> None:
    policy = taught()
    policy.on_pool((0, 1, 3), 0.0)
    pool = [v for v in views(4) if v.replica_id != 2]
    assert policy.choose(request(1, SYSTEM, (2, 70)), pool, 0.0).reason == "no match: least load"
    assert policy.choose(request(2, SYSTEM, (2, 70)), pool[1:], 0.0).reason == "match is away: first in order"  # it is at 0
