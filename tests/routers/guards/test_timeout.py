"""timeout: when the router gives a try up, and what follows."""

import pytest

from routers.guard import GiveUp, Guard, GuardContext, TryEnd
from routers.guards.breaker import BreakerGuard
from routers.guards.retry import RetryGuard
from routers.guards.timeout import TimeoutGuard
from routers.router import Router
from tests.routers.fake_driver import Always, FakeDriver, guard_context, request, views


def timeout(**parameters: object) -> TimeoutGuard:
    return TimeoutGuard(GuardContext(1, (0,), parameters))


def sent(g: TimeoutGuard, rid: int = 1, at_s: float = 0.0) -> None:
    g.on_sent(request(rid), 0, at_s)


@pytest.mark.parametrize(("orphan", "status"), [(False, 504), (True, 408)])
def test_a_try_without_a_first_token_is_given_up(orphan: bool, status: int) -> None:
    g = timeout(first_token_s=5.0, orphan=orphan, status=status)
    sent(g, at_s=1.0)
    assert (list(g.give_up(5.9)), g.next_wake_s()) == ([], 6.0)
    assert list(g.give_up(6.0)) == [GiveUp(1, orphan, status)]
    assert (list(g.give_up(6.0)), g.next_wake_s()) == ([], float("inf"))


def test_after_the_first_token_only_the_total_counts() -> None:
    g = timeout(first_token_s=5.0, total_s=20.0)
    sent(g)
    g.on_first_token(request(1), 0, 4.9)
    assert (list(g.give_up(5.0)), g.next_wake_s()) == ([], 20.0)
    assert list(g.give_up(20.0)) == [GiveUp(1)]


@pytest.mark.parametrize("left", ["failed", "done"])
def test_who_has_ended_is_not_given_up(left: str) -> None:
    g = timeout(first_token_s=5.0, total_s=20.0)
    sent(g)
    if left == "failed":
        g.on_end(request(1), TryEnd(False, 503, 0, 1), 1.0)
    else:
        g.on_done(request(1), 1.0)
    assert g.next_wake_s() == float("inf")


def test_each_try_has_its_own_time_but_a_pair_has_one() -> None:
    g = timeout(first_token_s=5.0, total_s=None)
    sent(g, at_s=0.0)
    g.on_end(request(1), TryEnd(True, 200, 0, 1), 2.0)  # the prefill
    sent(g, at_s=2.0)  # the decode
    assert g.next_wake_s() == 5.0
    g.on_end(request(1), TryEnd(False, 503, 0, 1), 3.0)
    sent(g, at_s=3.0)
    assert g.next_wake_s() == 8.0


def test_nothing_is_kept_of_who_has_ended() -> None:
    """Thirty minutes of finished requests behind one that still streams would be a leak."""
    g = timeout(first_token_s=5.0, total_s=1800.0)
    sent(g, rid=0)
    g.on_first_token(request(0), 0, 1.0)
    for rid in range(1, 1000):
        sent(g, rid, at_s=float(rid))
        g.on_first_token(request(rid), 0, rid + 0.5)
        g.on_end(request(rid), TryEnd(True, 200, 0, 1), rid + 0.9)
        g.on_done(request(rid), rid + 0.9)
    assert (len(g._sent), len(g._first_token), len(g._total)) == (1, 0, 1)
    assert g.next_wake_s() == 1800.0


def test_the_defaults_are_the_gateway_s_thirty_minutes() -> None:
    g = timeout()
    sent(g)
    assert g.next_wake_s() == 1800.0


class Driver(FakeDriver):
    """It leaves orphans alone, and says so."""

    def __init__(self) -> None:
        super().__init__()
        self.orphans: list[int] = []

    def orphan(self, try_id: int, now_s: float) -> None:
        self.orphans.append(try_id)


def build(guards: list[Guard]) -> tuple[Router, Driver]:
    driver = Driver()
    return Router(Always(), guards, views(2), driver), driver


RETRY: dict[str, object] = {"backoff_s": 0.0, "exclude": "last", "max_attempts": 2}


@pytest.mark.parametrize("retry_first", [True, False])
@pytest.mark.parametrize("orphan", [True, False])
def test_a_retry_follows_elsewhere_and_the_late_end_of_the_orphan_is_nobody_s(retry_first: bool, orphan: bool) -> None:
    guards: list[Guard] = [timeout(first_token_s=5.0, orphan=orphan), RetryGuard(GuardContext(1, (0, 1), RETRY))]
    router, driver = build(guards[::-1] if retry_first else guards)
    router.on_request(request(1), 0.0)
    router.on_wake(router.next_wake_s())
    assert (driver.orphans, driver.aborted) == (([1], []) if orphan else ([], [1]))
    assert driver.routes == [0, 1]
    assert [v.in_flight for v in router.views] == [0, 1]
    router.on_first_token(1, 6.0)
    router.on_try_end(1, True, 200, 7.0)
    assert driver.answers == {}
    router.on_try_end(2, True, 200, 8.0)
    assert (driver.answers[1].ok, [v.in_flight for v in router.views]) == (True, [0, 0])


def test_a_breaker_learns_of_it_and_without_a_retry_the_client_is_told() -> None:
    breaker = BreakerGuard(guard_context(2, failures=1))
    router, driver = build([timeout(first_token_s=5.0), breaker])
    router.on_request(request(1), 0.0)
    router.on_wake(5.0)
    assert (driver.answers[1].status, breaker.state_of(0, 5.0)) == (504, "open")


def test_in_the_middle_of_an_answer_there_is_no_retry() -> None:
    router, driver = build([timeout(total_s=5.0), RetryGuard(GuardContext(1, (0, 1), RETRY))])
    router.on_request(request(1), 0.0)
    router.on_first_token(1, 1.0)
    router.on_wake(5.0)
    assert (driver.answers[1].status, driver.routes) == (504, [0])
