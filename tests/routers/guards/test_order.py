"""The order of guards where it matters, pair by pair (`routers/guards/__init__.py` says it in words)."""

import pytest

from tests.routers.guards.guard_stage import Guards, Stage

RETRY: tuple[str, dict[str, object]] = ("retry", {"max_attempts": 3, "backoff_s": 1.0, "backoff_factor": 1.0, "jitter": 0.0})
BREAKER: tuple[str, dict[str, object]] = ("breaker", {"failures": 2, "open_s": 100.0})


@pytest.mark.parametrize("guards", [[RETRY, BREAKER], [BREAKER, RETRY]])
def test_a_breaker_counts_every_try_before_or_behind_retry(guards: Guards) -> None:
    """Hiding and ends have no order: the second failure opens it, and the third try goes elsewhere."""
    stage = Stage(guards, 2, "consistent_hash")
    stage.arrive(1)
    for now_s in (0.0, 1.0):
        stage.end(1, 503, now_s)
        stage.wake_until(now_s + 1.0)
    routes = stage.driver.routes
    assert (routes[0] == routes[1], routes[2] != routes[0], len(routes)) == (True, True, 3)


@pytest.mark.parametrize(("guards", "asked"), [([RETRY, ("client_throttle", {})], 3), ([("client_throttle", {}), RETRY], 1)])
def test_a_throttle_behind_retry_counts_every_try_and_before_it_every_request(guards: Guards, asked: int) -> None:
    stage = Stage(guards)
    throttle = next(g for g in stage.router.guards if hasattr(g, "refusal_chance"))
    throttle._settings = type(throttle._settings)(k=100.0)  # type: ignore[attr-defined]
    stage.driver.refuse = {0}
    stage.arrive(1)
    throttle._counts.add(0, 1, 0.0)  # type: ignore[attr-defined]  # so that nothing is thrown out by chance
    stage.wake_until(9.0)
    assert throttle._counts.requests == asked  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("guards", "sent"),
    [
        ([("queue", {"cap": 1}), RETRY], [0, 0, 1]),  # keeps its place through the backoff
        ([RETRY, ("queue", {"cap": 1})], [0, 0, 1]),  # a place in the pool is the request's: it passes again with it
        ([RETRY, ("replica_queue", {"cap": 1})], [0, 1, 0]),  # a place at a replica is the try's: others go meanwhile
    ],
)
def test_who_keeps_the_place_during_a_backoff(guards: Guards, sent: list[int]) -> None:
    stage = Stage(guards)
    stage.arrive(0, 1)
    stage.end(0, 503)
    stage.wake_until(1.0)
    stage.end_all(at_s=2.0)
    assert stage.sent == sent


@pytest.mark.parametrize(
    ("guards", "held", "refused"),
    [
        (
            [("replica_queue", {"cap": None}), ("concurrency", {"per_replica": 1})],
            3,
            0,
        ),  # held, not refused
        ([("concurrency", {"per_replica": 1}), ("replica_queue", {"cap": None})], 0, 3),  # the limit has refused already
        ([("queue", {"cap": 1}), ("concurrency", {"per_replica": 1})], 3, 0),
        ([("queue", {"cap": 4}), ("concurrency", {"per_replica": 1})], 0, 3),  # a pool queue knows its own cap only
    ],
)
def test_a_queue_before_or_behind_a_limit(guards: Guards, held: int, refused: int) -> None:
    stage = Stage(guards)
    stage.arrive(*range(4))
    assert (stage.held, len(stage.status)) == (held, refused)


@pytest.mark.parametrize("guards", [[("replica_queue", {"cap": None}), BREAKER], [BREAKER, ("replica_queue", {"cap": None})]])
def test_a_replica_queue_waits_for_an_open_breaker_before_or_behind_it(guards: Guards) -> None:
    stage = Stage(guards)
    stage.driver.refuse = {0}
    stage.arrive(0, 1)
    stage.driver.refuse = set()
    stage.arrive(2, at_s=50.0)
    assert (stage.held, stage.status) == (1, {0: 503, 1: 503})
    stage.wake_until(100.0)
    assert (stage.held, stage.sent) == (0, [0, 1, 2])


def test_the_first_retry_asked_for_counts() -> None:
    """Two of them: the first decides, and its retry passes the second again."""
    patient: tuple[str, dict[str, object]] = ("retry", {"backoff_s": 7.0, "jitter": 0.0, "max_attempts": 2})
    stage = Stage([patient, RETRY])
    stage.driver.refuse = {0}
    stage.arrive(1)
    assert stage.router.next_wake_s() == 7.0
    stage.wake_until(99.0)
    assert len(stage.sent) == 3
