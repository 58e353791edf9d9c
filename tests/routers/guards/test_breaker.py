"""breaker: closed, open, half-open. How both wheels lock healthy replicas out with it is in `test_gateway_facts`."""

import pytest

from routers.guard import GuardContext, TryEnd
from routers.guards.breaker import BreakerGuard
from tests.routers.fake_driver import request


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


@pytest.mark.parametrize(
    ("on_4xx", "count_429", "statuses", "state"),
    [
        ("failure", True, [400] * 10, "open"),  # sgl-model-gateway: whatever is not 2xx
        ("success", False, [503] * 9 + [400] + [503], "closed"),  # vllm-project/router: a 4xx ends the row
        ("success", False, [429, 408] * 50, "closed"),
        ("success", True, [429] * 10, "open"),
        ("ignored", False, [503] * 9 + [429, 400] + [503], "open"),
        ("failure", False, [429] * 10, "open"),
    ],
)
def test_what_a_client_error_says_is_a_parameter(on_4xx: str, count_429: bool, statuses: list[int], state: str) -> None:
    g = breaker(on_4xx=on_4xx, count_429=count_429)
    ends(g, *statuses)
    assert g.state_of(0, 0.0) == state


def test_half_open_may_let_a_few_through_only() -> None:
    g = breaker(half_open_tries=2)
    ends(g, *[503] * 10)
    assert g.admits(0, 60.0)
    g.on_sent(request(1), 0, 60.0)
    g.on_sent(request(2), 0, 60.0)
    assert (g.admits(0, 60.0), g.admits(1, 60.0)) == (False, True)
    g.on_done(request(1), 61.0)  # hung up: nothing was learnt, but the place is free
    assert g.admits(0, 61.0)
    for rid in (2, 3, 4):
        g.on_sent(request(rid), 0, 61.0)
        g.on_end(request(rid), TryEnd(True, 200, 0, 1), 61.0)
    assert g.state_of(0, 61.0) == "closed"
    for rid in range(10, 20):
        g.on_sent(request(rid), 0, 62.0)
    assert g.admits(0, 62.0)


def test_a_replica_that_leaves_is_forgotten() -> None:
    g = opened()
    ends(g, *[503] * 10, replica=1)
    g.on_pool((1, 2), 1.0)
    assert (g.state_of(0, 1.0), g.state_of(1, 1.0), g.next_wake_s()) == ("closed", "open", 60.0)
    g.on_pool((2,), 2.0)
    assert g.next_wake_s() == float("inf")
    g = opened()
    assert g.state_of(0, 61.0) == "half-open"
    g.on_pool((1,), 62.0)
    g.on_pool((0, 1), 63.0)
    assert g.state_of(0, 63.0) == "closed"


def test_the_last_ends_of_a_replica_that_left_say_nothing_of_its_successor() -> None:
    g = breaker()
    g.on_pool((1, 2), 1.0)
    ends(g, *[503] * 10, at_s=2.0)  # what was under way at 0
    g.on_pool((0, 1, 2), 3.0)
    assert (g.state_of(0, 3.0), g.next_wake_s()) == ("closed", float("inf"))


def test_each_open_one_has_its_own_time() -> None:
    g = breaker(open_s=10.0)
    ends(g, *[503] * 10, at_s=0.0, replica=0)
    ends(g, *[503] * 10, at_s=4.0, replica=1)
    assert g.next_wake_s() == 10.0
    g.on_wake(10.0)
    assert ([g.state_of(i, 10.0) for i in (0, 1, 2)], g.next_wake_s()) == (["half-open", "open", "closed"], 14.0)
    g.on_pool((0, 2), 11.0)
    assert g.next_wake_s() == float("inf")
