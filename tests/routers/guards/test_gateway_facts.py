"""What was measured on the real gateways (sglang-router 0.3.2, vllm-router 0.1.17) happens here too, and what cures it."""

import pytest

from tests.routers.guards.guard_stage import Guards, Stage

WHEELS: Guards = [("retry", {}), ("breaker", {})]


def burst(guards: Guards, status: int = 503, bad: tuple[int, ...] = (0, 1, 2, 3), n: int = 4) -> Stage:
    """30 requests at once, and the replicas in `bad` refuse all; 30 s later they are well again."""
    stage = Stage(guards, n, "cache_aware")

    def refuse(attempt: object, now_s: float) -> None:
        stage.driver.sent.append(attempt)  # type: ignore[arg-type]
        if attempt.replica_id in bad:  # type: ignore[attr-defined]
            stage.router.on_try_end(attempt.try_id, False, status, now_s, "no")  # type: ignore[attr-defined]

    well = stage.driver.send
    stage.driver.send = refuse  # type: ignore[method-assign]
    stage.arrive(*range(30))
    stage.wake_until(29.0)
    stage.driver.send = well  # type: ignore[method-assign]
    return stage


def served(stage: Stage, first: int, at_s: float, n: int = 40) -> int:
    """How many of so many requests, one after another, are answered well."""
    ok = 0
    for rid in range(first, first + n):
        sent = len(stage.driver.sent)
        stage.arrive(rid, at_s=at_s)
        if len(stage.driver.sent) > sent:
            stage.end(rid, at_s=at_s)
        ok += stage.status[rid] == 200
    return ok


@pytest.mark.parametrize(
    ("guards", "status", "after_30_s"),
    [
        (WHEELS, 503, 0),  # fact 1: 40 of 40 refused by a healthy pool
        (WHEELS, 429, 0),
        ([], 503, 40),  # breaker and retries off: immediate recovery
        ([("retry", {}), ("breaker", {"count_429": False})], 429, 40),  # a refusal for load is no fault
        ([("retry", {}), ("breaker", {"open_s": 5.0})], 503, 40),
        ([("retry", {}), ("ejection", {})], 503, 40),  # never more than a tenth of the pool, or one
    ],
)
def test_fact_1_a_burst_of_refusals_locks_a_healthy_pool_out_for_a_minute(guards: Guards, status: int, after_30_s: int) -> None:
    stage = burst(guards, status)
    assert served(stage, 100, 30.0) == after_30_s
    assert served(stage, 200, 90.0) == 40


def test_fact_1_without_retries_the_same_burst_opens_nothing() -> None:
    """30 requests are 30 tries at four replicas: under cache_aware one takes them all, or each takes less than 10 of them. It
    is retries that make 150 of them."""
    assert len(burst(WHEELS).driver.sent) > 39
    stage = burst([("breaker", {"failures": 31})])
    assert (len(stage.driver.sent), served(stage, 100, 30.0)) == (30, 40)


@pytest.mark.parametrize(("jitter", "least_s", "most_s"), [(0.0, 0.40625, 0.40625), (0.2, 0.325, 0.4875)])
def test_fact_2_five_retries_are_five_attempts_within_0_4_seconds(jitter: float, least_s: float, most_s: float) -> None:
    stage = Stage([("retry", {"jitter": jitter})])
    stage.driver.refuse = {0}
    stage.arrive(1)
    ended_s = 0.0
    while (wake_s := stage.router.next_wake_s()) < 9.0:
        stage.router.on_wake(ended_s := wake_s)
    assert (len(stage.sent), stage.status) == (5, {1: 503})
    assert least_s - 1e-9 <= ended_s <= most_s + 1e-9


@pytest.mark.parametrize(("exclude", "places"), [("none", 1), ("last", 2), ("tried", 5)])
def test_fact_2_a_sticky_policy_sends_all_five_to_the_same_replica(exclude: str, places: int) -> None:
    stage = Stage([("retry", {"exclude": exclude})], 8, "consistent_hash")
    stage.driver.refuse = set(range(8))
    stage.arrive(1)
    stage.wake_until(9.0)
    assert len(stage.sent) == 5
    assert len(set(stage.driver.routes)) == places


def test_fact_2_there_is_no_budget_so_a_dead_pool_gets_five_times_the_load() -> None:
    def tries(**budget: object) -> int:
        stage = Stage([("retry", budget)])
        stage.driver.refuse = {0}
        for rid in range(200):
            stage.arrive(rid, at_s=rid * 0.01)
            stage.wake_until(rid * 0.01)
        stage.wake_until(9.0)
        return len(stage.sent)

    assert tries() == 1000
    assert tries(bucket=5.0) == 205
    assert tries(budget=0.2, budget_floor=3) < 500


def test_fact_3_the_queue_does_not_queue() -> None:
    """--max-concurrent-requests 2 --queue-size 10: of ten at once, eight are answered 408 after half a second."""
    stage = Stage([("gateway_queue", {"max_concurrent": 2, "queue_size": 10})])
    stage.arrive(*range(10))
    assert (stage.sent, stage.held, stage.router.next_wake_s()) == ([0, 1], 8, 0.5)
    stage.wake_until(0.6)
    assert stage.status == dict.fromkeys(range(2, 10), 408)


def test_fact_3_a_queue_that_queues_serves_them_all() -> None:
    stage = Stage([("queue", {"cap": 2, "max_length": 10})])
    stage.arrive(*range(10))
    stage.wake_until(0.6)
    stage.end_all(at_s=1.0)
    assert stage.status == dict.fromkeys(range(10), 200)


def test_fact_3_what_ends_in_time_gives_its_token_to_who_waits() -> None:
    stage = Stage([("gateway_queue", {"max_concurrent": 2})])
    stage.arrive(*range(5))
    stage.end(0, at_s=0.3)
    assert (stage.sent, stage.held) == ([0, 1, 2], 2)
    stage.wake_until(0.6)
    assert stage.status == {0: 200, 3: 408, 4: 408}


def test_fact_3_nor_is_the_number_of_requests_limited() -> None:
    """It is a rate limit: two more start each second, however long the others run."""
    stage = Stage([("gateway_queue", {"max_concurrent": 2})])
    for rid in range(20):
        stage.arrive(rid, at_s=rid * 0.5)
    assert (len(stage.sent), stage.status) == (20, {})


@pytest.mark.parametrize(("queue_size", "status"), [(0, {2: 429}), (1, {})])
def test_fact_3_without_a_queue_it_refuses_at_once_and_any_size_is_the_same(queue_size: int, status: dict[int, int]) -> None:
    stage = Stage([("gateway_queue", {"max_concurrent": 2, "queue_size": queue_size})])
    stage.arrive(*range(3))
    assert stage.status == status
    if queue_size:
        stage.arrive(*range(3, 50))
        assert (stage.status, stage.held) == ({}, 48)
