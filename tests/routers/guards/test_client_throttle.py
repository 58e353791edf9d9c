"""client_throttle: the SRE book's equation, what is a request, what is an accept."""

from dataclasses import replace

import pytest

from routers.guard import GuardContext, Refuse, TryEnd
from routers.guards.client_throttle import ClientThrottleGuard
from routers.limits.sliding_counts import SlidingCounts
from tests.routers.fake_driver import request
from tests.routers.guards.guard_stage import Stage


def throttle(seed: int = 1, **parameters: object) -> ClientThrottleGuard:
    return ClientThrottleGuard(GuardContext(seed, (), parameters))


def play(g: ClientThrottleGuard, requests: int, accepts: int, at_s: float = 0.0, first: int = 0) -> int:
    """So many requests, of which so many of those that passed are accepted; returns how many were refused."""
    refused = 0
    for rid in range(first, first + requests):
        if isinstance(g.on_request(request(rid), [], at_s), Refuse):
            refused += 1
            continue
        ok = accepts > 0
        accepts -= ok
        g.on_end(request(rid), TryEnd(ok, 200 if ok else 503, 0, 1), at_s)
        g.on_done(request(rid), at_s)
    return refused


@pytest.mark.parametrize(
    ("requests", "accepts", "k", "p"),
    [
        (0, 0, 2.0, 0.0),
        (10, 10, 2.0, 0.0),
        (10, 5, 2.0, 0.0),  # half of it may fail at k = 2
        (10, 4, 2.0, 2 / 11),
        (10, 0, 2.0, 10 / 11),
        (10, 4, 1.0, 6 / 11),
    ],
)
def test_the_equation(requests: int, accepts: int, k: float, p: float) -> None:
    g = throttle(k=k)
    g._counts.add(requests, accepts, 0.0)
    assert g.refusal_chance(0.0) == pytest.approx(p)


def test_a_dead_pool_is_hardly_asked_and_a_healthy_one_is_never_spared() -> None:
    assert 900 < play(throttle(), 1000, 0) < 1000
    assert play(throttle(), 1000, 1000) == 0


def test_k_2_lets_twice_as_many_through_as_are_accepted() -> None:
    g, sent = throttle(), 0
    for rid in range(5000):
        if not isinstance(g.on_request(request(rid), [], 0.0), Refuse):
            sent += 1
            ok = sent % 10 == 0  # the pool takes a tenth
            g.on_end(request(rid), TryEnd(ok, 200 if ok else 429, 0, 1), 0.0)
    accepts = sent // 10
    assert 5000 - 2 * accepts > 3000
    assert g._counts.requests == 5000


def test_what_is_throttled_counts_as_a_request_too() -> None:
    g = throttle()
    refused = play(g, 100, 0)
    assert refused > 0
    assert g._counts.requests == 100


@pytest.mark.parametrize(
    ("status", "accepted"), [(200, True), (400, True), (500, True), (408, True), (0, False), (429, False), (503, False)]
)
def test_an_accept_is_any_answer_that_is_no_refusal(status: int, accepted: bool) -> None:
    g = throttle()
    g.on_request(request(1), [], 0.0)
    g.on_end(request(1), TryEnd(status == 200, status, 0, 1), 0.0)
    assert g._counts.accepts == int(accepted)


def test_a_first_token_is_the_accept_and_the_end_does_not_count_again() -> None:
    g = throttle()
    g.on_request(request(1), [], 0.0)
    g.on_first_token(request(1), 0, 1.0)
    g.on_end(request(1), TryEnd(True, 200, 0, 1, True), 9.0)
    assert g._counts.accepts == 1


def test_long_streams_under_way_are_no_refusals() -> None:
    """Counted at its end, an answer of a minute would make 200 requests in flight look like 200 refusals."""
    stage = Stage([("client_throttle", {})])
    for rid in range(200):
        stage.arrive(rid)
        stage.first_token(rid)
    assert (len(stage.sent), stage.status) == (200, {})


def test_two_minutes_later_it_is_forgotten() -> None:
    g = throttle()
    play(g, 100, 0)
    assert g.refusal_chance(119.0) > 0.9
    assert g.refusal_chance(121.0) == 0.0


def test_draws_are_keyed_by_the_request() -> None:
    def refused(rids: list[int]) -> set[int]:
        g = throttle()
        g._counts.add(1000, 300, 0.0)
        return {rid for rid in rids if isinstance(g.on_request(request(rid), [], 0.0), Refuse)}

    forwards, backwards = refused(list(range(100))), refused(list(range(99, -1, -1)))
    assert 25 < len(forwards) < 55
    assert len(forwards ^ backwards) <= 3  # only p moved, by 100 in 1000


def test_a_retry_has_a_draw_of_its_own() -> None:
    def refused(router_try: int) -> set[int]:
        g = throttle()
        g._counts.add(1000, 300, 0.0)
        tries = [replace(request(rid), router_try=router_try) for rid in range(100)]
        return {r.rid for r in tries if isinstance(g.on_request(r, [], 0.0), Refuse)}

    assert len(refused(1) ^ refused(2)) > 20


def test_the_window_slides_in_steps_and_stays_bounded() -> None:
    counts = SlidingCounts(120.0)
    for second in range(1000):
        counts.add(2, 1, float(second))
    assert (counts.requests, counts.accepts) == (240, 120)
    assert len(counts._steps) == 120
    counts.pass_time(5000.0)
    assert (counts.requests, counts.accepts, len(counts._steps)) == (0, 0, 0)
