"""retry: when the router tries again, when, and where not."""

import pytest

from routers.guard import GuardContext, Retry, TryEnd
from routers.guards.retry import RetryGuard
from tests.routers.fake_driver import request


def guard(**parameters: object) -> RetryGuard:
    return RetryGuard(GuardContext(1, (), parameters))


def fail(
    g: RetryGuard, rid: int = 1, n: int = 1, status: int = 503, replica: int = 0, at_s: float = 0.0, **end: bool
) -> Retry | None:
    return g.on_end(request(rid), TryEnd(end.get("ok", False), status, replica, n, end.get("streaming", False)), at_s)


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_it_retries_what_may_pass(status: int) -> None:
    assert fail(guard(), status=status) is not None


@pytest.mark.parametrize("status", [400, 404, 501])
def test_it_does_not_retry_what_will_fail_again(status: int) -> None:
    assert fail(guard(), status=status) is None


def test_the_statuses_are_a_parameter() -> None:
    assert fail(guard(retry_on=[503]), status=429) is None


def test_never_after_success_nor_after_the_first_token() -> None:
    assert guard().on_end(request(1), TryEnd(True, 200, 0, 1), 0.0) is None
    assert guard().on_end(request(1), TryEnd(False, 0, 0, 1, streaming=True), 0.0) is None


def test_five_attempts_in_all_within_0_4_seconds() -> None:
    """Both wheels' default, measured (POLICIES fact 2): 50 + 75 + 112.5 + 168.75 ms."""
    g, now_s, tries = guard(jitter=0.0), 0.0, 1
    while (retry := fail(g, n=tries, at_s=now_s)) is not None:
        now_s, tries = retry.at_s, tries + 1
    assert tries == 5
    assert now_s == pytest.approx(0.40625)


def test_the_backoff_has_a_limit_and_a_jitter_keyed_by_the_request() -> None:
    g = guard(backoff_s=1.0, backoff_factor=2.0, backoff_max_s=3.0, jitter=0.5)
    waits = [g.backoff_before(9, request(i)) for i in range(500)]
    assert (min(waits) >= 1.5, max(waits) <= 4.5, max(waits) - min(waits) > 2.8) == (True, True, True)
    assert waits == [g.backoff_before(9, request(i)) for i in range(500)]


def test_it_does_not_retry_beyond_the_requests_deadline() -> None:
    g = guard(backoff_s=1.0, jitter=0.0)
    end = TryEnd(False, 503, 0, 1)
    assert g.on_end(request(1, deadline_s=1.0), end, 0.0) is None
    assert g.on_end(request(1, deadline_s=1.1), end, 0.0) is not None


@pytest.mark.parametrize(("exclude", "excluded"), [("none", [set(), set()]), ("last", [{2}, {0}]), ("tried", [{2}, {0, 2}])])
def test_where_not_to_go_again(exclude: str, excluded: list[set[int]]) -> None:
    g = guard(exclude=exclude)
    answers = [fail(g, n=1, replica=2), fail(g, n=2, replica=0)]
    assert [a.exclude for a in answers if a is not None] == excluded
    g.on_done(request(1), 0.0)
    again = fail(g, replica=1)  # the rid is free again: nothing is remembered
    assert again is not None
    assert again.exclude == (set() if exclude == "none" else {1})


@pytest.mark.parametrize(("inside", "allowed"), [(1, 1), (10, 3), (15, 3), (16, 4), (20, 4), (100, 20)])
def test_a_budget_of_a_fifth_of_the_requests_inside_but_three_at_least(inside: int, allowed: int) -> None:
    g = guard(budget=0.2)
    for rid in range(inside):
        g.on_request(request(rid), [], 0.0)
    assert sum(fail(g, rid) is not None for rid in range(inside)) == allowed


def test_a_retry_counts_until_it_ends() -> None:
    g = guard(budget=0.0, budget_floor=1)
    for rid in (1, 2):
        g.on_request(request(rid), [], 0.0)
    assert fail(g, 1) is not None
    assert fail(g, 2) is None
    assert fail(g, 1, n=2) is not None  # its own retry made room for the next
    g.on_done(request(1), 1.0)
    assert fail(g, 2) is not None


def succeed(g: RetryGuard, n: int = 1) -> None:
    for _ in range(n):
        g.on_end(request(1), TryEnd(True, 200, 0, 1), 0.0)
        g.on_done(request(1), 0.0)


@pytest.mark.parametrize(
    ("bucket", "successes", "allowed"),
    [
        (5, 0, 5),  # full at first
        (5, 100, 5),  # and never more than full
        (1, 0, 1),
    ],
)
def test_a_token_bucket_pays_one_for_a_retry(bucket: float, successes: int, allowed: int) -> None:
    g = guard(bucket=bucket)
    succeed(g, successes)
    assert sum(fail(g, rid) is not None for rid in range(20)) == allowed


@pytest.mark.parametrize(("successes", "allowed"), [(9, 0), (10, 1), (19, 1), (20, 2), (1000, 5)])
def test_ten_successes_earn_the_next_retry(successes: int, allowed: int) -> None:
    """Brooker: each success puts 0.1 in, each retry takes 1 out; so at most a tenth of the successes is retried."""
    g = guard(bucket=5.0)
    for rid in range(5):
        assert fail(g, rid) is not None
    succeed(g, successes)
    assert sum(fail(g, rid) is not None for rid in range(20)) == allowed


def test_a_pair_is_one_success() -> None:
    g = guard(bucket=5.0)
    assert fail(g) is not None
    for rid in (2, 3):
        for replica in (0, 1):  # its prefill, its decode
            g.on_end(request(rid), TryEnd(True, 200, replica, 1), 1.0)
        g.on_done(request(rid), 1.0)
    assert g.tokens == pytest.approx(4.2)


def test_what_is_refused_for_another_reason_costs_no_token() -> None:
    g = guard(bucket=5.0, max_attempts=2)
    assert fail(g, n=2) is None
    assert fail(g, status=400) is None
    assert g.on_end(request(1, deadline_s=0.01), TryEnd(False, 503, 0, 1), 0.0) is None
    assert g.tokens == 5.0


def test_both_budgets_may_hold_at_once() -> None:
    g = guard(bucket=5.0, budget=0.2, budget_floor=2)
    assert sum(fail(g, rid) is not None for rid in range(20)) == 2
    assert g.tokens == 3.0
