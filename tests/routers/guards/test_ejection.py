"""ejection: who is out, for how long, how many at once, and how it comes back."""

import pytest

from routers.guard import GuardContext, TryEnd
from routers.guards.ejection import EjectionGuard
from routers.limits.slow_start import SlowStart
from tests.routers.fake_driver import request, views
from tests.routers.guards.guard_stage import Stage


def ejection(n: int = 10, **parameters: object) -> EjectionGuard:
    return EjectionGuard(GuardContext(1, tuple(range(n)), parameters))


def ends(g: EjectionGuard, replica: int, *statuses: int, at_s: float = 0.0) -> None:
    for status in statuses:
        g.on_end(request(1), TryEnd(status == 200, status, replica, 1), at_s)


@pytest.mark.parametrize(
    ("statuses", "out"),
    [
        ([500] * 4, ()),
        ([500] * 5, (3,)),
        ([0, 500, 502, 503, 504], (3,)),  # a lost connection is one of them
        ([500] * 4 + [200] + [500] * 4, ()),  # in a row
        ([500] * 4 + [429] + [500] * 4, ()),  # 429 is an answer: it ends the row
        ([429] * 50, ()),
    ],
)
def test_five_failures_in_a_row_eject(statuses: list[int], out: tuple[int, ...]) -> None:
    g = ejection()
    ends(g, 3, *statuses)
    assert g.ejected(0.0) == out
    assert g.admits(3, 0.0) is (out == ())
    assert g.admits(4, 0.0)


def test_it_is_back_at_the_sweep_after_thirty_seconds() -> None:
    g = ejection()
    ends(g, 3, *[500] * 5, at_s=12.0)
    assert g.next_wake_s() == 50.0  # 42 s, and sweeps stand at tens
    assert (g.admits(3, 49.9), g.admits(3, 50.0), g.next_wake_s()) == (False, True, float("inf"))


def test_each_time_it_stays_out_longer_and_rest_makes_it_shorter() -> None:
    g, now_s, stays = ejection(), 0.0, []
    for rest_s in (1.0, 1.0, 1.0, 25.0, 100.0, 1.0):
        ends(g, 3, *[500] * 5, at_s=now_s)
        back_s = g.next_wake_s()
        stays.append(back_s - now_s)
        g.on_wake(back_s)
        now_s = back_s + rest_s
    # rest of 25 s holds two sweeps, of 100 s ten: each takes one off, down to none
    assert [round(s) for s in stays] == [30, 69, 99, 129, 95, 30]


def test_never_longer_than_five_minutes() -> None:
    g, now_s, longest_s = ejection(), 0.0, 0.0
    for _ in range(20):
        ends(g, 3, *[500] * 5, at_s=now_s)
        longest_s = max(longest_s, g.next_wake_s() - now_s)
        now_s = g.next_wake_s()
        g.on_wake(now_s)
    assert longest_s == 300.0


@pytest.mark.parametrize(
    ("n", "parameters", "out"),
    [
        (10, {}, 1),
        (30, {}, 3),
        (4, {}, 1),  # one, however small the pool
        (4, {"always_one": False}, 0),  # Envoy since 1.31: nothing is ejected below ten
        (4, {"max_ejected": 0.5}, 2),
        (4, {"max_ejected": 1.0}, 4),
    ],
)
def test_however_many_fail_only_a_tenth_is_out(n: int, parameters: dict[str, object], out: int) -> None:
    g = ejection(n, **parameters)
    for replica in range(n):
        ends(g, replica, *[503] * 20)
    assert len(g.ejected(0.0)) == out


def rates(g: EjectionGuard, *failures: int, n: int = 100, at_s: float = 1.0) -> None:
    """Replica i has so many failures among n answers, never five in a row."""
    for replica, bad in enumerate(failures):
        for i in range(n):
            ends(g, replica, 500 if i * bad // n != (i + 1) * bad // n else 200, at_s=at_s)


@pytest.mark.parametrize(
    ("failures", "n", "out"),
    [
        ([50, 0, 0, 0, 0], 100, (0,)),  # Envoy's own example: mean 90, deviation 20, threshold 52
        ([0, 0, 0, 0, 0], 100, ()),
        ([50, 50, 50, 50, 50], 100, ()),  # all alike
        ([50, 0, 0, 0], 100, ()),  # too few replicas
        ([49, 0, 0, 0, 0], 99, ()),  # too few answers
        ([60, 60, 0, 0, 0], 100, ()),  # two of five are no outliers at 1.9 deviations
    ],
)
def test_success_rates_are_judged_at_the_sweep(failures: list[int], n: int, out: tuple[int, ...]) -> None:
    g = ejection(len(failures), failures=None)
    rates(g, *failures, n=n)
    assert g.ejected(9.9) == ()
    assert g.ejected(10.0) == out


def test_a_sweep_looks_at_its_own_interval_only() -> None:
    g = ejection(5, failures=None)
    rates(g, 50, 0, 0, 0, 0, n=60, at_s=1.0)
    rates(g, 50, 0, 0, 0, 0, n=60, at_s=11.0)
    assert g.ejected(40.0) == ()


def test_the_failure_share_is_another_rule() -> None:
    g = ejection(5, failures=None, success_rate=False, failure_share=0.85, max_ejected=1.0)
    rates(g, 80, 75, 60, 0, 0)
    assert g.ejected(10.0) == ()
    g = ejection(5, failures=None, success_rate=False, failure_share=0.75, max_ejected=1.0)
    rates(g, 80, 75, 60, 0, 0)
    assert g.ejected(10.0) == (0, 1)


def test_a_replica_that_left_is_forgotten_and_its_place_is_free() -> None:
    g = ejection(10)
    ends(g, 3, *[500] * 5)
    ends(g, 4, *[500] * 5)
    assert g.ejected(0.0) == (3,)
    g.on_pool((0, 1, 2, 4, 5, 6, 7, 8, 9, 10), 1.0)
    ends(g, 3, *[500] * 5, at_s=1.0)  # an older try's end
    ends(g, 4, *[500] * 5, at_s=1.0)
    assert g.ejected(1.0) == (4,)
    g.on_pool((0, 1, 2, 3), 2.0)
    assert (g.ejected(2.0), g.next_wake_s()) == ((), float("inf"))


# Slow start


@pytest.mark.parametrize(
    ("at_s", "aggression", "share"),
    [
        (0.0, 1.0, 0.1),  # the least
        (5.0, 1.0, 0.1),
        (15.0, 1.0, 0.3),
        (25.0, 1.0, 0.5),
        (49.9, 1.0, 1.0),
        (12.5, 2.0, 0.5),  # (12.5 / 50)^½
    ],
)
def test_its_share_grows_with_time(at_s: float, aggression: float, share: float) -> None:
    """Of 4000 sends to four replicas an equal part would be 1000, whatever wants to send it everything."""
    slow = SlowStart(50.0, aggression, 0.1)
    slow.begin(3, 0.0)
    got = 0
    for _ in range(4000):
        to = 3 if slow.shows(3) else 0
        got += to == 3
        slow.on_sent(to, 4, at_s)
    assert got == pytest.approx(1000 * share, rel=0.03, abs=1.0)


def test_it_saves_nothing_up() -> None:
    slow = SlowStart(50.0, 1.0, 0.1)
    slow.begin(3, 0.0)
    for _ in range(1000):
        slow.on_sent(0, 4, 10.0)
    slow.on_sent(3, 4, 10.0)
    assert not slow.shows(3)


def test_a_policy_that_loves_the_idle_replica_gets_it_in_steps_only() -> None:
    """least_outstanding would send all to who has just come back, for it is empty."""

    def returned(slow_start_s: float) -> int:
        stage = Stage([("ejection", {"slow_start_s": slow_start_s, "failures": 1})], 4)
        stage.arrive(0)
        stage.end(0, 500)
        out = stage.driver.routes[0]
        stage.wake_until(29.0)
        stage.arrive(*range(100, 160), at_s=29.0)  # the other three hold 20 each
        stage.wake_until(30.0)
        stage.arrive(*range(200, 220), at_s=30.0)
        return stage.driver.routes[-20:].count(out)

    assert (returned(0.0), returned(60.0)) == (20, 1)


def test_where_nobody_else_is_it_serves_in_full() -> None:
    stage = Stage([("ejection", {"slow_start_s": 60.0, "failures": 1, "max_ejected": 1.0})], 2)
    for rid in (0, 1):
        stage.arrive(rid)
    for rid in (0, 1):
        stage.end(rid, 500)
    stage.arrive(2)
    assert stage.status[2] == 503
    stage.wake_until(30.0)
    stage.arrive(*range(10, 20), at_s=31.0)
    assert len(stage.sent) == 12


def test_a_new_replica_starts_slowly_too() -> None:
    g = ejection(2, slow_start_s=60.0)
    g.on_pool((0, 1, 2), 5.0)
    assert (g.next_wake_s(), g.admits(2, 5.0)) == (65.0, True)
    g.on_request(request(1), views(3), 5.0)
    g.on_sent(request(1), 2, 5.0)
    assert (g.admits(2, 5.0), g.admits(2, 65.0), g.next_wake_s()) == (False, True, float("inf"))
