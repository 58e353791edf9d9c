"""breaker: closed, open, half-open, and how both wheels lock healthy replicas out."""

import pytest

from routers.factory import build_router
from routers.guard import GuardContext, TryEnd
from routers.guards.breaker import BreakerGuard
from tests.routers.fake_driver import FakeDriver, request, views


def breaker(**parameters: object) -> BreakerGuard:
    return BreakerGuard(GuardContext(1, (), parameters))


def ends(g: BreakerGuard, *statuses: int, at_s: float = 0.0, replica: int = 0) -> None:
    for status in statuses:
        g.on_end(request(1), TryEnd(status == 200, status, replica, 1), at_s)


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ([503] * 9, "closed"),
        ([503] * 10, "open"),
        ([503] * 9 + [200] + [503] * 9, "closed"),  # in a row
        ([503] * 9 + [400] + [503], "open"),  # a bad request says nothing of the replica
        ([400] * 50, "closed"),
        ([429] * 10, "open"),
        ([0, 408, 500, 502, 504] * 2, "open"),
    ],
)
def test_ten_failures_in_a_row_open_it(statuses: list[int], state: str) -> None:
    g = breaker()
    ends(g, *statuses)
    assert g.state_of(0, 0.0) == state
    assert g.admits(0, 0.0) is (state == "closed")
    assert g.admits(1, 0.0)


def test_429_need_not_count() -> None:
    g = breaker(count_429=False)
    ends(g, *[429] * 50)
    assert g.state_of(0, 0.0) == "closed"


def opened() -> BreakerGuard:
    g = breaker()
    ends(g, *[503] * 10)
    return g


def test_it_is_half_open_after_a_minute_and_says_so() -> None:
    g = opened()
    assert (g.next_wake_s(), g.admits(0, 59.9), g.state_of(0, 59.9)) == (60.0, False, "open")
    assert (g.admits(0, 60.0), g.state_of(0, 60.0), g.next_wake_s()) == (True, "half-open", float("inf"))


def test_ends_of_older_tries_change_nothing_while_open() -> None:
    g = opened()
    ends(g, 200, 200, 200, 503, at_s=30.0)
    assert g.next_wake_s() == 60.0


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        ([200, 200], "half-open"),
        ([200, 200, 200], "closed"),
        ([200, 200, 503], "open"),
        ([400], "half-open"),
    ],
)
def test_three_successes_close_it_and_one_failure_opens_it_again(statuses: list[int], state: str) -> None:
    g = opened()
    ends(g, *statuses, at_s=61.0)
    assert g.state_of(0, 61.0) == state
    assert (g.next_wake_s() == 121.0) is (state == "open")


def test_once_closed_it_takes_ten_again() -> None:
    g = opened()
    ends(g, 200, 200, 200, *[503] * 9, at_s=61.0)
    assert g.state_of(0, 61.0) == "closed"


@pytest.mark.parametrize(("guards", "served"), [([("retry", {}), ("breaker", {})], 0), ([], 40)])
def test_one_burst_of_503_locks_healthy_replicas_out_for_a_minute(
    guards: list[tuple[str, dict[str, object]]], served: int
) -> None:
    """Measured on both wheels (POLICIES fact 1): after 30 requests met 503, 40 of 40 later ones were refused; without
    breaker and retries, none was."""
    driver = FakeDriver()
    router = build_router("cache_aware", {}, guards, views(4), driver, 1)
    driver.router, driver.refuse = router, {0, 1, 2, 3}
    for rid in range(30):
        router.on_request(request(rid), 0.0)
    while (wake_s := router.next_wake_s()) < 30.0:
        router.on_wake(wake_s)
    driver.refuse = set()

    def ask(first: int, at_s: float) -> int:
        for rid in range(first, first + 40):
            sent = len(driver.sent)
            router.on_request(request(rid), at_s)
            if len(driver.sent) > sent:
                router.on_try_end(driver.last.try_id, True, 200, at_s)
        return sum(driver.answers[rid].ok for rid in range(first, first + 40))

    assert ask(100, 30.0) == served
    assert ask(200, 90.0) == 40
