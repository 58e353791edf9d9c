"""preble: exploit where most of the prompt is cached, else explore by load + eviction + prefill cost in seconds."""

import pytest

from routers.policies import build_policy
from routers.policies.preble import Preble, _Recent
from routers.policy import Decision, TryEnd
from tests.routers.fake_driver import context, request, views

PREFIX, REST = (1, 320), (2, 320)


def preble(n: int = 3, **parameters: object) -> Preble:
    """With 1 ms a prefilled token and, until measured, nothing for decoding."""
    given = {"prefill_s_per_token": 0.001, "decode_s_per_token": 0.0, **parameters}
    policy = build_policy("preble", context(n, 1, **given))
    assert isinstance(policy, Preble)
    return policy


def send(policy: Preble, rid: int, replica_id: int, *segments: tuple[int, int], now_s: float = 0.0) -> None:
    policy.on_sent(request(rid, *segments), Decision(replica_id), now_s)


@pytest.mark.parametrize(
    ("asked", "chosen", "reason"),
    [
        ([PREFIX, (9, 319)], 1, "exploit: most is cached"),  # 320 of 639 cached
        ([PREFIX, (9, 320)], 0, "explore: least cost"),  # 320 of 640 is not more than the rest
        ([(9, 640)], 0, "explore: least cost"),
    ],
)
def test_more_cached_than_not_is_exploited(asked: list[tuple[int, int]], chosen: int, reason: str) -> None:
    policy = preble()
    send(policy, 1, 1, PREFIX)
    send(policy, 2, 1, (5, 3200))  # much load there
    decision = policy.choose(request(3, *asked), views(3), 1.0)
    assert (decision.replica_id, decision.reason) == (chosen, reason)


def test_the_least_loaded_of_those_that_hold_most_is_exploited() -> None:
    policy = preble()
    for replica_id in (1, 2):
        send(policy, replica_id, replica_id, PREFIX)
    send(policy, 3, 1, (5, 160))
    assert policy.choose(request(4, PREFIX), views(3), 1.0).replica_id == 2
    send(policy, 5, 1, PREFIX, REST)
    assert policy.choose(request(6, PREFIX, REST), views(3), 1.0).replica_id == 1  # it holds more, whatever its load


def test_load_is_what_was_sent_within_three_minutes() -> None:
    policy = preble()
    send(policy, 1, 0, (5, 1000), now_s=0.0)
    send(policy, 2, 1, (6, 500), now_s=100.0)
    send(policy, 3, 2, (7, 700), now_s=100.0)
    assert policy._load_s == pytest.approx({0: 1.0, 1: 0.5, 2: 0.7})
    assert policy.choose(request(4, (9, 100)), views(3), 179.0).replica_id == 1
    assert policy.choose(request(5, (9, 100)), views(3), 180.0).replica_id == 0
    assert policy.choose(request(6, (9, 100)), views(3), 280.0).replica_id == 0
    assert policy._load_s == {0: 0.0, 1: 0.0, 2: 0.0}


def test_load_counts_uncached_tokens_and_the_decode_of_the_mean_output() -> None:
    policy = preble(decode_s_per_token=0.01)
    send(policy, 1, 0, PREFIX)
    assert policy._load_s[0] == pytest.approx(0.320 + 256 * 0.01)  # nothing is known of outputs but max_tokens
    policy.on_first_token(request(1, PREFIX), Decision(0), 1.0)
    policy.on_end(request(1, PREFIX), Decision(0), TryEnd(True, 200, 0, 1, True, 101), 3.0)  # 100 gaps in 2 s
    send(policy, 2, 0, PREFIX, REST)
    assert policy._load_s[0] == pytest.approx(2.88 + 0.320 + 101 * 0.02)
    send(policy, 3, 1, (7, 160))
    assert policy._load_s[1] == pytest.approx(0.160 + 101 * 0.01)  # replica 1 has not answered yet


def test_exploring_prefers_what_is_cached_where_loads_are_alike() -> None:
    policy = preble()
    send(policy, 1, 2, PREFIX)
    for rid, replica_id in ((2, 0), (3, 1)):
        send(policy, rid, replica_id, (10 + rid, 320))
    decision = policy.choose(request(4, PREFIX, (9, 640)), views(3), 1.0)
    assert (decision.replica_id, decision.reason) == (2, "explore: least cost")


def test_evicting_what_was_used_lately_costs_its_prefill_again() -> None:
    policy = preble(2, index_blocks=20)
    send(policy, 1, 0, (5, 320), now_s=0.0)  # replica 0 is full
    send(policy, 2, 1, (6, 319), now_s=0.0)
    send(policy, 3, 1, (7, 101), now_s=0.0)  # replica 1 is full too: 0.42 s of load against 0.32
    policy.on_pool((0, 1, 2), 0.0)
    send(policy, 4, 2, (8, 100), now_s=0.0)
    send(policy, 5, 2, (8, 100), now_s=0.0)
    policy._load_s[2] = 0.5
    assert policy.choose(request(6, (9, 320)), views(3), 1.0).replica_id == 0  # 0.32 + 0.32 + 0.32 | … | 0.5 + 0.32 + 0.32
    assert policy.choose(request(7, (9, 160)), views(3), 1.0).replica_id == 0  # 0.32 + 0.16·2 | 0.42 + 0.16·2 | 0.5 + 0.16
    policy._load_s[2] = 0.4
    assert policy.choose(request(8, (9, 160)), views(3), 1.0).replica_id == 2  # 0.64 | 0.74 | 0.4 + 0.16
    assert policy.choose(request(9, (9, 160)), views(3), 400.0).replica_id == 0  # nothing there was used lately


def test_rebalancing_gives_exploited_requests_to_the_lightest() -> None:
    for rebalance, chosen in ((None, 0), (2.0, 1), (100.0, 0)):
        policy = preble(2, rebalance=rebalance)
        send(policy, 1, 0, PREFIX)
        send(policy, 2, 0, (5, 320))
        send(policy, 3, 1, (6, 100))
        assert policy.choose(request(4, PREFIX), views(2), 1.0).replica_id == chosen


def test_the_window_is_bounded_in_requests_too() -> None:
    policy = preble(2, window_requests=3)
    for rid in range(10):
        send(policy, rid, 0, (rid + 10, 160))
    assert len(policy._window) == 3
    assert policy._load_s[0] == pytest.approx(3 * 0.160)


def test_a_replica_that_leaves_takes_its_load_with_it() -> None:
    policy = preble()
    send(policy, 1, 1, PREFIX)
    policy.on_first_token(request(1, PREFIX), Decision(1), 1.0)
    policy.on_pool((0, 2, 3), 2.0)
    policy.on_end(request(1, PREFIX), Decision(1), TryEnd(True, 200, 1, 1, True, 10), 3.0)
    assert (policy._load_s, policy._first_token_s, list(policy._window)) == ({0: 0.0, 2: 0.0, 3: 0.0}, {}, [])
    pool = [v for v in views(4) if v.replica_id != 1]
    assert policy.choose(request(2, PREFIX), pool, 4.0).reason == "explore: least cost"


def test_the_median_is_of_the_last_two_hundred() -> None:
    recent = _Recent(0.15)
    assert recent.median() == 0.15
    for value in (3.0, 1.0, 2.0):
        recent.add(value)
    assert recent.median() == 2.0
    for _ in range(200):
        recent.add(5.0)
    assert (recent.median(), len(recent._sorted)) == (5.0, 200)
