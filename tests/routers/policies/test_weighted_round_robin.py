"""weighted_round_robin: nginx's smooth rule, pick by pick."""

import pytest

from routers.policies import build_policy
from tests.routers.fake_driver import context, request, views


def picks(weights: list[int], n: int, count: int) -> str:
    policy, pool = build_policy("weighted_round_robin", context(n, 1, weights=weights)), views(n)
    return "".join("abcd"[policy.choose(request(i), pool, 0.0).replica_id] for i in range(count))


@pytest.mark.parametrize(
    ("weights", "n", "order"),
    [
        ([5, 1, 1], 3, "aabacaa"),  # nginx's own example
        ([2, 1], 2, "aba"),
        ([1, 1, 1], 3, "abc"),
        ([], 3, "abc"),  # who has no weight weighs 1
        ([3], 2, "aaba"),
        ([1, 4], 2, "bbabb"),
    ],
)
def test_the_order_repeats_and_is_evenly_interleaved(weights: list[int], n: int, order: str) -> None:
    assert picks(weights, n, 3 * len(order)) == 3 * order


def test_who_is_away_gains_nothing_meanwhile() -> None:
    policy, pool = build_policy("weighted_round_robin", context(3, 1, weights=[2, 1, 1])), views(3)
    assert [policy.choose(request(i), pool[:2], 0.0).replica_id for i in range(6)] == [0, 1, 0, 0, 1, 0]
    assert [policy.choose(request(i), pool, 0.0).replica_id for i in range(4)] == [0, 1, 2, 0]  # level: as from the start


def test_a_new_replica_weighs_one_and_the_others_keep_their_turn() -> None:
    policy = build_policy("weighted_round_robin", context(2, 1, weights=[2, 1]))
    assert policy.choose(request(0), views(2), 0.0).replica_id == 0  # gained: -1, 1
    policy.on_pool((0, 1, 2), 0.0)
    assert [policy.choose(request(i), views(3), 0.0).replica_id for i in range(4)] == [1, 0, 2, 0]
    policy.on_pool((2,), 0.0)
    policy.on_pool((0, 2), 0.0)  # back with the weight that it was given
    pool = [v for v in views(3) if v.replica_id != 1]
    chosen = [policy.choose(request(i), pool, 0.0).replica_id for i in range(300)]
    assert chosen.count(0) == 200


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2, 3, 4], r"weighted_round_robin: weights = \[1, 2, 3, 4\] is not allowed; there are 3 replicas"),
        ([1, 0], r"weighted_round_robin: weights = \[1, 0\] is not allowed; each must be at least 1"),
        (["a"], "weights = .* must be a list of whole numbers"),
    ],
)
def test_wrong_weights_are_one_clear_line(weights: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_policy("weighted_round_robin", context(3, 1, weights=weights))
