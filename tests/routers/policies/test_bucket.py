"""bucket: SMG's own examples, in tokens for characters."""

from math import inf

import pytest

from routers.policies import build_policy
from routers.policies.bucket import Bucket, cut, first_cut
from routers.policy import Decision
from tests.routers.fake_driver import context, request, views


def bucket(n: int = 3, **parameters: object) -> Bucket:
    policy = build_policy("bucket", context(n, 1, **parameters))
    assert isinstance(policy, Bucket)
    return policy


def send(policy: Bucket, tokens: int, now_s: float = 0.0, n: int = 3) -> Decision:
    asked = request(1, (tokens, tokens))
    decision = policy.choose(asked, views(n), now_s)
    policy.on_sent(asked, decision, now_s)
    return decision


@pytest.mark.parametrize(("n", "upper"), [(1, [inf]), (2, [2047, inf]), (3, [1364, 2729, inf])])
def test_the_first_cut_is_even_up_to_4096(n: int, upper: list[float]) -> None:
    assert first_cut(n) == upper


@pytest.mark.parametrize(
    ("lengths", "upper"),
    [
        ([5, 10, 15, 20, 24, 26], [20, 26, inf]),  # a third of 100: 5+10+15+20, 24+26, the rest
        ([33, 34, 34], [33, 67, inf]),  # 34 is already the lower end of the second: as wide as a share
        ([100, 100], [100, 167, inf]),  # a share of 66
        ([200] * 40 + [6000] * 12, [6000, 32667, inf]),  # the short ones are less than a share of 26,666: the first gets all
        ([1], [0, 1, inf]),  # a share of none: the shortest there can be
    ],
)
def test_each_takes_of_the_sorted_lengths_until_it_has_its_share(lengths: list[int], upper: list[float]) -> None:
    assert cut(lengths, 3, sum(lengths) // 3) == upper


@pytest.mark.parametrize(("tokens", "replica_id"), [(0, 0), (1364, 0), (1365, 1), (2729, 1), (2730, 2), (90_000, 2)])
def test_a_length_belongs_to_one_range(tokens: int, replica_id: int) -> None:
    decision = send(bucket(), tokens)
    assert (decision.replica_id, decision.reason) == (replica_id, "its range of lengths")


@pytest.mark.parametrize(
    ("abs_", "rel", "loads", "balanced"),
    [
        (32, 1.0001, (32, 0, 0), True),  # 32 is not above 32
        (32, 1.0001, (33, 0, 0), False),
        (5, 3.0, (15, 5, 15), True),  # 15 is not above 3 · 5
        (5, 3.0, (16, 5, 15), False),
    ],
)
def test_out_of_balance_takes_both_thresholds_and_leads_to_the_least_load(
    abs_: int, rel: float, loads: tuple[int, ...], balanced: bool
) -> None:
    policy = bucket(abs=abs_, rel=rel)
    for replica_id, tokens in enumerate(loads):
        policy.on_sent(request(1, (9, tokens)), Decision(replica_id), 0.0)
    decision = policy.choose(request(2, (7, 3000)), views(3), 0.0)
    assert decision.replica_id == (2 if balanced else loads.index(min(loads)))
    assert decision.reason == ("its range of lengths" if balanced else "out of balance: least load")


def test_the_ranges_are_cut_again_every_five_seconds() -> None:
    policy = bucket(abs=10_000)
    for tokens in (5, 10, 15, 20, 24, 26):
        assert send(policy, tokens, now_s=4.0).replica_id == 0
    assert send(policy, 21, now_s=4.9).replica_id == 0
    assert send(policy, 21, now_s=5.0).replica_id == 1
    assert policy._upper == [20, 24, inf]  # 121 tokens: shares of 40


def test_a_load_within_a_factor_of_two_leaves_the_ranges_as_they_are() -> None:
    policy = bucket(abs=10_000)
    for tokens in (5, 10, 15, 20, 24, 26):
        send(policy, tokens, now_s=4.0)
    send(policy, 1, now_s=5.0)
    assert policy._upper == [20, 26, inf]
    for tokens in (60, 60, 60):
        send(policy, tokens, now_s=9.5)  # those of 4.0 are too old: 180 + 1 tokens, a share of 60 after one of 33
    send(policy, 1, now_s=10.0)
    assert policy._upper == [20, 26, inf]
    send(policy, 600, now_s=14.0)
    send(policy, 1, now_s=15.0)
    assert policy._upper == [600, 861, inf]  # 60, 60, 60, 1 and 600: a share of 260, and none is left for the second


def test_load_is_of_the_last_five_seconds() -> None:
    policy = bucket()
    send(policy, 1000)
    assert send(policy, 1, now_s=1.0).reason == "out of balance: least load"
    send(policy, 1, now_s=6.0)
    assert policy._loads.values == [0, 0, 1] or sum(policy._loads.values) <= 2


def test_a_range_whose_owner_is_away_is_served_by_the_least_loaded() -> None:
    policy = bucket()
    decision = policy.choose(request(1, (1, 10)), views(3)[1:], 0.0)
    assert decision.replica_id == 1


def test_a_pool_change_makes_the_first_cut_again() -> None:
    policy = bucket()
    send(policy, 100)
    policy.on_pool((1, 4), 1.0)
    assert policy._upper == [2047, inf]
    pool = [v for v in views(5) if v.replica_id in (1, 4)]
    assert policy.choose(request(1, (1, 2048)), pool, 1.0).replica_id == 4
    policy.on_sent(request(1, (1, 10)), Decision(0), 1.0)  # decided before it left
