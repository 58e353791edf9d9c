"""queue and replica_queue: who waits, who goes next, who is refused."""

import pytest

from routers.factory import build_router
from routers.guard import Release
from routers.lines.waiting_line import QueueSettings, WaitingLine
from routers.router import Router
from tests.routers.fake_driver import FakeDriver, request, views


def build(
    name: str, n: int = 1, guards: list[tuple[str, dict[str, object]]] | None = None, **parameters: object
) -> tuple[Router, FakeDriver]:
    driver = FakeDriver()
    router = build_router("least_outstanding", {}, guards or [(name, parameters)], views(n), driver, 1)
    driver.router = router
    return router, driver


def arrive(router: Router, *rids: int, at_s: float = 0.0, deadline_s: float = 1e9) -> None:
    for rid in rids:
        router.on_request(request(rid, deadline_s=deadline_s), at_s)


def finish_next(router: Router, driver: FakeDriver, at_s: float) -> None:
    open_ = [t for t in driver.sent if t.request.rid not in driver.answers]
    router.on_try_end(open_[0].try_id, True, 200, at_s)


def order(driver: FakeDriver) -> list[int]:
    return [t.request.rid for t in driver.sent]


BOTH = pytest.mark.parametrize("name", ["queue", "replica_queue"])


@BOTH
@pytest.mark.parametrize(("rule", "sent"), [("fifo", [0, 1, 2, 3, 4]), ("lifo", [0, 1, 4, 3, 2])])
def test_two_go_and_the_rest_follows_in_order(name: str, rule: str, sent: list[int]) -> None:
    router, driver = build(name, cap=2, order=rule)
    arrive(router, 0, 1, 2, 3, 4)
    assert (order(driver), router.held_requests) == ([0, 1], 3)
    for _ in range(5):
        finish_next(router, driver, 1.0)
    assert (order(driver), router.open_requests) == (sent, 0)


@BOTH
def test_who_waits_too_long_is_refused_with_408(name: str) -> None:
    router, driver = build(name, cap=1, deadline_s=5.0)
    arrive(router, 0, 1)
    arrive(router, 2, at_s=1.0)
    assert router.next_wake_s() == 5.0
    router.on_wake(5.0)
    assert {rid: end.status for rid, end in driver.answers.items()} == {1: 408}
    assert router.next_wake_s() == 6.0
    finish_next(router, driver, 5.5)
    assert order(driver) == [0, 2]


@BOTH
def test_nobody_waits_beyond_the_requests_own_deadline(name: str) -> None:
    router, driver = build(name, cap=1, deadline_s=None)
    arrive(router, 0, 1, deadline_s=3.0)
    assert router.next_wake_s() == 3.0
    router.on_wake(3.0)
    assert driver.answers[1].status == 408


@BOTH
def test_at_the_deadline_it_is_too_late_even_if_a_place_is_free_at_that_instant(name: str) -> None:
    router, driver = build(name, cap=1, deadline_s=5.0)
    arrive(router, 0, 1)
    finish_next(router, driver, 5.0)
    assert driver.answers[1].status == 408


@BOTH
@pytest.mark.parametrize(("drop", "refused", "sent"), [("new", 3, [0, 1, 2]), ("old", 1, [0, 2, 3])])
def test_a_full_line_refuses_the_new_or_the_oldest(name: str, drop: str, refused: int, sent: list[int]) -> None:
    router, driver = build(name, cap=1, max_length=2, drop=drop)
    arrive(router, 0, 1, 2, 3)
    assert {rid: end.status for rid, end in driver.answers.items()} == {refused: 503}
    for _ in range(3):
        finish_next(router, driver, 1.0)
    assert order(driver) == sent


@BOTH
def test_without_a_line_it_refuses_at_once(name: str) -> None:
    router, driver = build(name, cap=1, max_length=0, full_status=429, drop="old")
    arrive(router, 0, 1)
    assert driver.answers[1].status == 429


@BOTH
def test_a_hang_up_frees_its_place_wherever_it_is(name: str) -> None:
    router, driver = build(name, cap=1)
    arrive(router, 0, 1, 2)
    router.on_cancel(1, 1.0)  # in line
    router.on_cancel(0, 1.0)  # served
    assert (order(driver), driver.aborted) == ([0, 2], [driver.sent[0].try_id])


def test_the_pool_queue_counts_a_request_through_its_backoff() -> None:
    router, driver = build("", guards=[("queue", {"cap": 1}), ("retry", {"backoff_s": 1.0, "jitter": 0.0})])
    arrive(router, 0, 1)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    assert (order(driver), router.held_requests) == ([0], 1)
    router.on_wake(1.0)
    router.on_try_end(driver.last.try_id, True, 200, 2.0)
    assert order(driver) == [0, 0, 1]


def test_behind_retry_the_replica_queue_frees_the_place_and_the_retry_waits_in_line_again() -> None:
    router, driver = build("", guards=[("retry", {"backoff_s": 1.0, "jitter": 0.0}), ("replica_queue", {"cap": 1})])
    arrive(router, 0, 1)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    assert order(driver) == [0, 1]
    router.on_wake(1.0)
    assert router.held_requests == 1
    router.on_try_end(driver.last.try_id, True, 200, 2.0)
    assert order(driver) == [0, 1, 0]


def test_the_replica_queue_keeps_every_replica_at_its_cap() -> None:
    router, _ = build("replica_queue", 3, cap=2)
    arrive(router, *range(10))
    assert [v.in_flight for v in router.views] == [2, 2, 2]
    assert router.held_requests == 4


def test_the_replica_queue_uses_a_replica_that_comes_back() -> None:
    router, driver = build("replica_queue", 2, cap=1)
    router.set_healthy(1, False, 0.0)
    arrive(router, 0, 1)
    assert driver.routes == [0]
    router.set_healthy(1, True, 1.0)
    assert driver.routes == [0, 1]


def test_the_replica_queue_waits_for_a_breaker_rather_than_send_into_it() -> None:
    router, driver = build("", 2, [("breaker", {"failures": 1, "open_s": 10.0}), ("replica_queue", {"cap": 1})])
    arrive(router, 0, 1)
    router.on_try_end(next(t.try_id for t in driver.sent if t.replica_id == 0), False, 500, 0.0)
    arrive(router, 2)
    assert (len(driver.sent), router.held_requests) == (2, 1)
    router.on_wake(router.next_wake_s())
    assert (driver.routes[-1], router.held_requests) == (0, 0)


def test_a_retry_keeps_its_place_in_the_pool() -> None:
    router, driver = build("", guards=[("retry", {"backoff_s": 1.0, "jitter": 0.0}), ("queue", {"cap": 1})])
    arrive(router, 0, 1)
    router.on_try_end(driver.last.try_id, False, 503, 0.0)
    router.on_wake(1.0)
    assert (order(driver), router.held_requests) == ([0, 0], 1)


@BOTH
def test_when_the_next_one_fails_at_once_the_one_after_it_goes(name: str) -> None:
    router, driver = build(name, cap=1)
    arrive(router, 0, 1, 2, 3)
    driver.refuse = {0}
    router.on_try_end(driver.last.try_id, True, 200, 1.0)
    assert (order(driver), router.open_requests) == ([0, 1, 2, 3], 0)


def test_a_place_that_is_granted_but_not_yet_taken_is_not_granted_twice() -> None:
    router, driver = build("", guards=[("replica_queue", {"cap": 2, "max_length": 0}), ("queue", {"cap": 1})])
    arrive(router, 0, 1, 2)  # 1 is held by the second guard
    assert (order(driver), router.held_requests, driver.answers[2].status) == ([0], 1, 503)


def test_who_left_the_line_does_not_expire() -> None:
    line = WaitingLine(QueueSettings(deadline_s=5.0))
    for rid in (1, 2, 3):
        line.join(request(rid), 0.0)
    line.hang_up(2)
    assert line.leave(1, 1.0) == [Release(1)]
    assert line.leave(0, 9.0) == [Release(3, 408)]
