"""prequal: probes, the pool of answers, hot and cold."""

from math import inf

import pytest

from replicas.view import Observation
from routers.policies import build_policy
from routers.policies.prequal import Prequal, PrequalSettings, reuse_limit
from tests.routers.fake_driver import context, request, views


def prequal(n: int = 8, **parameters: object) -> Prequal:
    policy = build_policy("prequal", context(n, 1, **parameters))
    assert isinstance(policy, Prequal)
    return policy


def answer(policy: Prequal, replica_id: int, rif: int, latency_s: float, at_s: float = 0.0) -> None:
    policy.on_probe(replica_id, Observation(waiting=rif // 2, running=rif - rif // 2, kv_used=0.0, latency_s=latency_s), at_s)


def test_every_request_probes_three_distinct_replicas() -> None:
    policy, pool = prequal(), views(8)
    probes = [policy.choose(request(i), pool, 0.0).probes for i in range(400)]
    assert all(len(set(p)) == 3 for p in probes)
    counts = [sum(i in p for p in probes) for i in range(8)]
    assert all(0.7 < n / 150 < 1.3 for n in counts)  # 400 · 3 / 8 each


def test_a_small_pool_is_probed_whole() -> None:
    assert set(prequal(2).choose(request(1), views(2), 0.0).probes) == {0, 1}


def test_with_fewer_than_two_answers_it_draws() -> None:
    policy, pool = prequal(), views(8)
    answer(policy, 3, 0, 0.01)
    drawn = [policy.choose(request(i), pool, 0.0) for i in range(100)]
    assert {d.reason for d in drawn} == {"too few answers: drawn"}
    assert len({d.replica_id for d in drawn}) == 8


@pytest.mark.parametrize(
    ("answers", "chosen", "reason"),
    [
        # (replica, requests in flight, latency); hot is above the 0.84-quantile of these very numbers
        ([(0, 9, 0.1), (1, 2, 0.5), (2, 3, 0.3), (4, 1, 0.4)], 2, "cold: least latency"),  # 0 is fast but hot
        ([(0, 4, 0.2), (1, 4, 0.1)], 1, "cold: least latency"),
        ([(5, 1, 0.3), (6, 1, 0.3)], 5, "cold: least latency"),  # a tie goes to the older answer
    ],
)
def test_the_fastest_of_the_cold_is_chosen(answers: list[tuple[int, int, float]], chosen: int, reason: str) -> None:
    policy = prequal()
    for replica_id, rif, latency_s in answers:
        answer(policy, replica_id, rif, latency_s)
    decision = policy.choose(request(1), views(8), 0.5)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_when_all_are_hot_the_fewest_in_flight_is_chosen() -> None:
    policy = prequal(pool_size=2)
    for _ in range(20):
        answer(policy, 0, 1, 0.1)  # recent answers of a quiet pool
    answer(policy, 1, 9, 0.01)
    answer(policy, 2, 7, 0.9)
    decision = policy.choose(request(1), views(8), 0.0)
    assert (decision.replica_id, decision.reason) == (2, "all hot: least RIF")


def test_an_answer_that_is_used_counts_one_more_in_flight() -> None:
    policy = prequal(removals=0, rif_quantile=0.0)  # hot = above the least answer
    answer(policy, 0, 3, 0.1)
    answer(policy, 1, 3, 0.2)
    assert [policy.choose(request(i), views(8), 0.0).replica_id for i in range(4)] == [0, 1, 0, 1]


def test_answers_expire_after_a_second() -> None:
    policy = prequal()
    answer(policy, 0, 1, 0.1, at_s=0.0)
    answer(policy, 1, 1, 0.2, at_s=0.0)
    answer(policy, 2, 1, 0.3, at_s=0.9)
    answer(policy, 3, 1, 0.4, at_s=0.9)
    assert policy.choose(request(1), views(8), 1.5).replica_id == 2
    assert policy.choose(request(2), views(8), 2.0).reason == "too few answers: drawn"


def test_the_pool_keeps_the_latest_sixteen() -> None:
    policy = prequal(32, removals=0)
    answer(policy, 31, 0, 0.001)  # the best there ever was
    for i in range(16):
        answer(policy, i, 1, 0.1 + i)
    assert policy.choose(request(1), views(32), 0.0).replica_id == 0


def test_each_request_removes_the_worst_and_the_oldest_by_turns() -> None:
    policy = prequal(rif_quantile=1.0)
    for replica_id, latency_s in ((0, 0.4), (1, 0.9), (2, 0.1), (3, 0.2)):
        answer(policy, replica_id, 1, latency_s)
    answer(policy, 4, 9, 0.8)  # so that 1 or 2 in flight are cold
    assert policy.choose(request(1), views(8), 0.0).replica_id == 2
    assert [a.replica_id for a in policy._pool] == [0, 2, 3, 4]  # without the slowest
    policy.choose(request(2), views(8), 0.0)
    assert [a.replica_id for a in policy._pool] == [2, 3, 4]  # without the oldest


def test_the_worst_is_the_fullest_if_any_is_hot() -> None:
    policy = prequal(rif_quantile=0.5)
    for replica_id, rif, latency_s in ((0, 1, 0.9), (1, 8, 0.1), (2, 7, 0.1), (3, 1, 0.2)):
        answer(policy, replica_id, rif, latency_s)
    policy.choose(request(1), views(8), 0.0)
    assert [a.replica_id for a in policy._pool] == [0, 2, 3]


def test_answers_of_ineligible_replicas_are_not_used() -> None:
    policy = prequal()
    for replica_id in (0, 1, 2):
        answer(policy, replica_id, 0, 0.1 * (1 + replica_id))
    assert policy.choose(request(1), views(8)[1:], 0.0).replica_id == 1


@pytest.mark.parametrize(
    ("pool_size", "replicas", "limit"),
    [
        (16, 100, 2 / (0.84 * 3 - 1)),  # the paper's testbed
        (16, 1000, max(1.0, 2 / (0.984 * 3 - 1))),
        (16, 4, inf),  # answers cannot make up for removals
        (2, 3, inf),  # 1/3 · 3 - 1 = 0
    ],
)
def test_the_reuse_limit_follows_the_formula(pool_size: int, replicas: int, limit: float) -> None:
    assert reuse_limit(PrequalSettings(pool_size=pool_size), replicas) == pytest.approx(limit)


def test_an_answer_leaves_after_its_uses() -> None:
    policy = prequal(1000, removals=0, probes=1000, pool_size=1)  # 2 / 999 → once
    assert reuse_limit(policy._settings, 1000) == 1.0
    policy = prequal(1000, removals=0, probes=2, pool_size=2)  # 2 / 1.996: 1.002 → nearly always once
    answer(policy, 0, 1, 0.1)
    answer(policy, 1, 1, 0.2)
    assert policy.choose(request(1), views(1000), 0.0).replica_id == 0
    assert policy.choose(request(2), views(1000), 0.0).reason == "too few answers: drawn"


def test_it_may_probe_while_idle() -> None:
    policy = prequal(8, idle_probe_s=0.5)
    assert policy.next_wake_s() == 0.5
    first = policy.on_wake(0.5)
    assert (len(set(first)), policy.next_wake_s()) == (3, 1.0)
    policy.choose(request(1), views(8), 0.8)
    assert policy.next_wake_s() == 1.3
    assert prequal().next_wake_s() == inf


def test_answers_of_who_left_the_pool_are_dropped_and_the_reuse_limit_follows_its_size() -> None:
    policy = prequal(100)
    for replica_id in (0, 1, 2):
        answer(policy, replica_id, 0, 0.1 * (1 + replica_id))
    policy.on_pool((1, 2, 200), 0.5)
    answer(policy, 0, 0, 0.01, at_s=0.5)  # probed before it left
    assert policy.choose(request(1), [v for v in views(3) if v.replica_id], 0.5).replica_id == 1
    assert policy._reuse == inf
    assert {i for rid in range(50) for i in policy._to_probe(list(policy._ids), rid)} == {1, 2, 200}
