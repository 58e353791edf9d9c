"""join_idle_queue: who is on the list of idle replicas, and when."""

from collections import Counter

import pytest

from replicas.view import ReplicaView
from routers.policies import build_policy
from routers.policy import Decision, Policy, TryEnd
from tests.routers.fake_driver import context, request, views


def jiq(n: int = 3, **parameters: object) -> Policy:
    return build_policy("join_idle_queue", context(n, 1, **parameters))


def send(policy: Policy, rid: int, pool: list[ReplicaView] | None = None) -> int:
    decision = policy.choose(request(rid), pool or views(3), 0.0)
    policy.on_sent(request(rid), decision, 0.0)
    return decision.replica_id


def end(policy: Policy, rid: int, replica_id: int) -> None:
    policy.on_end(request(rid), Decision(replica_id), TryEnd(True, 200, replica_id, 1), 1.0)


def test_each_idle_one_is_used_once_and_comes_back_when_it_is_idle_again() -> None:
    policy = jiq()
    assert [send(policy, rid) for rid in range(3)] == [0, 1, 2]
    end(policy, 2, 2)
    end(policy, 0, 0)
    assert [send(policy, rid) for rid in (3, 4)] == [2, 0]  # in the order in which they became idle


def test_with_nobody_idle_it_draws() -> None:
    policy = jiq()
    for rid in range(3):
        send(policy, rid)
    decisions = [policy.choose(request(rid), views(3), 0.0) for rid in range(10, 3010)]
    assert {d.reason for d in decisions} == {"none idle: drawn"}
    counts = Counter(d.replica_id for d in decisions)
    assert sum((n - 1000) ** 2 / 1000 for n in counts.values()) < 13.8  # chi-square, 2 degrees, p = 0.001


def test_idle_may_mean_fewer_than_k_running() -> None:
    policy = jiq(idle_below=2)
    assert [send(policy, rid) for rid in range(6)] == [0, 1, 2, 0, 1, 2]
    assert policy.choose(request(9), views(3), 0.0).reason == "none idle: drawn"


@pytest.mark.parametrize(
    ("waiting", "running", "k", "listed"),
    [(0, 0, 1, True), (0, 1, 1, False), (1, 0, 1, False), (0, 7, 8, True), (0, 8, 8, False), (1, 3, 8, False)],
)
def test_an_observation_takes_off_the_list_and_puts_on_it(waiting: int, running: int, k: int, listed: bool) -> None:
    policy = jiq(2, idle_below=k)
    policy.on_observation(ReplicaView(0, waiting=waiting, running=running), 0.0)
    assert policy.choose(request(1), views(2), 0.0).replica_id == (0 if listed else 1)
    policy.on_observation(ReplicaView(1, waiting=9), 0.0)
    assert (policy.choose(request(2), views(2), 0.0).reason == "longest idle") is listed
    policy.on_observation(ReplicaView(1), 1.0)
    assert policy.choose(request(2), views(2), 1.0).reason == "longest idle"


def test_an_idle_observation_does_not_count_against_ones_own_request_under_way() -> None:
    policy = jiq(1)
    send(policy, 1, views(1))
    policy.on_observation(ReplicaView(0), 0.1)  # from before it arrived
    assert policy.choose(request(2), views(1), 0.1).reason == "none idle: drawn"


def test_idle_ones_that_are_not_eligible_are_passed_over_and_stay_listed() -> None:
    policy, pool = jiq(), views(3)
    assert policy.choose(request(1), pool[1:], 0.0).replica_id == 1
    assert policy.choose(request(1), pool, 0.0).replica_id == 0


def test_a_pool_change_drops_who_left_and_lists_who_is_new() -> None:
    policy = jiq()
    send(policy, 0)  # at 0
    policy.on_pool((1, 4), 1.0)
    end(policy, 0, 0)
    pool = [ReplicaView(1), ReplicaView(4)]
    assert [send(policy, rid, pool) for rid in (1, 2)] == [1, 4]
    assert policy.choose(request(3), pool, 1.0).reason == "none idle: drawn"
