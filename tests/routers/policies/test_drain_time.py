"""drain_time: SMG's least_load formula, its credits, and what it does without news."""

import pytest

from replicas.view import ReplicaView
from routers.policies import build_policy
from routers.policy import Decision, Policy
from tests.routers.fake_driver import context, loaded, request, views


def heard(*news: tuple[int, float], now_s: float = 0.0, **parameters: object) -> tuple[Policy, list[ReplicaView]]:
    """Each replica has told how many wait and its KV usage."""
    policy, pool = build_policy("drain_time", context(len(news), 1, **parameters)), views(len(news))
    for view, (waiting, kv_used) in zip(pool, news, strict=True):
        view.waiting, view.kv_used, view.observed_s = waiting, kv_used, now_s
        policy.on_observation(view, now_s)
    return policy, pool


@pytest.mark.parametrize(
    ("news", "chosen"),
    [
        # a waiting request is 1024 tokens / 2000 a second = 0.512 s; KV usage k costs 0.15·k/(1-k)
        ([(1, 0.0), (0, 0.0)], 1),  # 0.512 against 0
        ([(0, 0.5), (0, 0.4)], 1),  # 0.15 against 0.1
        ([(1, 0.0), (0, 0.75)], 1),  # 0.512 against 0.45
        ([(1, 0.0), (0, 0.78)], 0),  # 0.512 against 0.532
        ([(0, 1.0), (200, 0.0)], 1),  # 0.15·0.999/0.001 = 150 s against 102 s
        ([(3, 0.2), (3, 0.2)], 0),  # a tie goes to the first
    ],
)
def test_queue_and_kv_pressure_add_up_in_seconds(news: list[tuple[int, float]], chosen: int) -> None:
    policy, pool = heard(*news)
    assert policy.choose(request(1), pool, 1.0).replica_id == chosen


def test_what_was_sent_since_the_last_news_is_credited_so_that_arrivals_do_not_herd() -> None:
    policy, pool = heard((0, 0.0), (0, 0.0), (1, 0.0))
    chosen = []
    for rid in range(6):
        decision = policy.choose(request(rid, (rid, 200)), pool, 0.1)
        policy.on_sent(request(rid, (rid, 200)), decision, 0.1)  # 0.1 s of work each
        chosen.append(decision.replica_id)
    assert chosen == [0, 1, 0, 1, 0, 1]
    pool[0].waiting = 1
    policy.on_observation(pool[0], 5.0)  # its credit is spent: the news has it in
    assert policy.choose(request(9), pool, 5.0).replica_id == 1


@pytest.mark.parametrize(
    ("now_s", "in_flight", "chosen", "reason"),
    [
        (30.0, (0, 0), 1, "shortest drain time"),  # news of 30 s = three polls still counts: 0.512 against 0
        (30.1, (3, 4), 0, "no news: fewest in flight"),
        (30.1, (4, 4), 0, "no news: fewest in flight"),
    ],
)
def test_news_of_more_than_three_polls_ago_is_none(now_s: float, in_flight: tuple[int, int], chosen: int, reason: str) -> None:
    policy, pool = heard((1, 0.0), (0, 0.0))
    for view, n in zip(pool, in_flight, strict=True):
        view.in_flight = n
    decision = policy.choose(request(1), pool, now_s)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


@pytest.mark.parametrize(("in_flight", "chosen"), [(0, 1), (1, 1), (2, 0)])
def test_one_that_is_silent_alone_is_guessed_from_what_is_in_flight_there(in_flight: int, chosen: int) -> None:
    """The other one has 2 waiting: 1.024 s; so have two in flight, and the first wins a tie."""
    policy, pool = build_policy("drain_time", context(2)), loaded(0, in_flight)
    pool[0].waiting = 2
    policy.on_observation(pool[0], 0.0)
    assert policy.choose(request(1), pool, 1.0).replica_id == chosen


def test_before_any_news_the_fewest_in_flight_win() -> None:
    policy = build_policy("drain_time", context(3))
    assert policy.choose(request(1), loaded(2, 1, 1), 0.0).replica_id == 1


def test_a_pool_change_forgets_and_a_new_replica_is_dark() -> None:
    policy, pool = heard((5, 0.0), (1, 0.0))
    policy.on_pool((1, 7), 1.0)
    others = [pool[1], ReplicaView(7)]
    assert policy.choose(request(1), others, 1.0).replica_id == 7  # 0.512 s against nothing in flight
    policy.on_sent(request(2), Decision(0), 1.0)  # decided before it left
