"""prefix_hash: the first 256 tokens decide, unless that replica holds more than 1.25 times the mean."""

import pytest

from routers.policies import build_policy
from routers.policies.prefix_hash import PrefixHash
from tests.routers.fake_driver import context, loaded, request, views


def prefix_hash(n: int = 4, **parameters: object) -> PrefixHash:
    policy = build_policy("prefix_hash", context(n, 1, **parameters))
    assert isinstance(policy, PrefixHash)
    return policy


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ([(1, 256), (2, 50)], [(1, 256), (3, 50)], True),  # they part after the 256th token
        ([(1, 300), (2, 50)], [(1, 300)], True),
        ([(1, 255), (2, 50)], [(1, 255), (3, 50)], False),  # the 256th token is another
        ([(1, 100)], [(1, 100), (2, 200)], False),  # 100 tokens are hashed, and 256
        ([(1, 100), (2, 10)], [(1, 100), (2, 10)], True),
    ],
)
def test_the_first_256_tokens_decide(one: list[tuple[int, int]], other: list[tuple[int, int]], alike: bool) -> None:
    policy = prefix_hash()
    assert (policy._prefix_key(request(1, *one).prompt) == policy._prefix_key(request(2, *other).prompt)) is alike
    if alike:
        ids = {policy.choose(request(i, *p), views(4), 0.0).replica_id for i, p in ((1, one), (2, other))}
        assert len(ids) == 1


def test_prefixes_spread_over_the_ring() -> None:
    policy, pool = prefix_hash(), views(4)
    counts = [0] * 4
    for i in range(400):
        counts[policy.choose(request(i, (1000 + i, 300)), pool, 0.0).replica_id] += 1
    assert min(counts) > 50


def at_home(policy: PrefixHash) -> list[tuple[int, int]]:
    """A prompt whose home is replica 2."""
    return next([(c, 300)] for c in range(1, 100) if policy.choose(request(0, (c, 300)), views(4), 0.0).replica_id == 2)


@pytest.mark.parametrize(
    ("in_flight", "chosen", "reason"),
    [
        ((0, 0, 0, 0), 2, "prefix's place on the ring"),
        ((23, 23, 30, 23), 2, "prefix's place on the ring"),  # 30 ≤ 1.25 · (99 + 1) / 4 = 31.25
        ((21, 21, 36, 21), 0, "home is too busy: least load"),  # 36 > 31.25
        ((21, 20, 36, 20), 1, "home is too busy: least load"),  # the first in order of the least
        ((0, 0, 1, 0), 0, "home is too busy: least load"),  # 1 > 1.25 · 2 / 4
    ],
)
def test_a_replica_that_is_too_busy_gives_it_away(in_flight: tuple[int, ...], chosen: int, reason: str) -> None:
    policy = prefix_hash()
    decision = policy.choose(request(1, *at_home(policy)), loaded(*in_flight), 0.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_home_away_goes_to_the_next_on_the_ring_and_comes_back() -> None:
    policy = prefix_hash()
    prompt, pool = at_home(policy), views(4)
    away = policy.choose(request(1, *prompt), [*pool[:2], pool[3]], 0.0)
    assert away.reason == "next on the ring, home is away"
    policy.on_pool((0, 1, 3), 0.0)
    assert policy.choose(request(2, *prompt), [*pool[:2], pool[3]], 0.0).replica_id == away.replica_id
    policy.on_pool((0, 1, 2, 3), 0.0)
    assert policy.choose(request(3, *prompt), pool, 0.0).replica_id == 2
