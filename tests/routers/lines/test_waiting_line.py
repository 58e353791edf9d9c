"""The line itself: adaptive order and controlled delay. Deadlines and lengths are in `test_queues`."""

import pytest

from routers.guard import Release
from routers.lines.codel import CoDel
from routers.lines.waiting_line import QueueSettings, WaitingLine
from tests.routers.fake_driver import request
from tests.routers.guards.guard_stage import Stage


def line(n: int, **settings: object) -> WaitingLine:
    """So many wait, one since each second."""
    waiting = WaitingLine(QueueSettings(**settings))  # type: ignore[arg-type]
    for rid in range(n):
        waiting.join(request(rid), float(rid))
    return waiting


@pytest.mark.parametrize(
    ("order", "left"),
    [
        ("fifo", [0, 1, 2, 3, 4, 5]),
        ("lifo", [5, 4, 3, 2, 1, 0]),
        ("adaptive", [5, 4, 3, 0, 1, 2]),  # the newest first while more than three wait
    ],
)
def test_the_order(order: str, left: list[int]) -> None:
    waiting = line(6, order=order, lifo_above=3)
    assert [waiting.leave(1, 6.0)[0].rid for _ in range(6)] == left


@pytest.mark.parametrize(
    ("delays", "sloughed"),
    [
        # (delay_s, at_s); target 1 s, interval 10 s: sloughed where the least of an interval was above 1 s, and it waited 2 s
        ([(5.0, 0.0), (5.0, 1.0), (5.0, 2.0)], [False, False, True]),
        ([(5.0, 0.0), (5.0, 1.0), (1.9, 2.0)], [False, False, False]),  # overloaded, but not twice the target
        ([(5.0, 0.0), (5.0, 1.0), (0.5, 2.0), (5.0, 3.0), (5.0, 12.0), (5.0, 13.0)], [False, False, False, True, False, False]),
        ([(0.5, 0.0), (5.0, 1.0), (5.0, 2.0)], [False, False, False]),
    ],
)
def test_controlled_delay(delays: list[tuple[float, float]], sloughed: list[bool]) -> None:
    codel = CoDel(1.0, 10.0)
    assert [codel.sloughs(delay_s, at_s) for delay_s, at_s in delays] == sloughed


def test_a_line_under_controlled_delay_drops_who_waited_too_long_and_goes_on_to_the_next() -> None:
    waiting = line(8, codel_target_s=1.0, codel_interval_s=5.0)
    assert [waiting.leave(1, 20.0 + i) for i in range(2)] == [[Release(0)], [Release(1)]]
    waiting.join(request(99), 24.0)
    assert waiting.leave(1, 25.0) == [Release(rid, 408) for rid in range(2, 8)] + [Release(99)]


@pytest.mark.parametrize("name", ["queue", "replica_queue"])
def test_who_need_not_wait_shows_that_there_is_no_overload(name: str) -> None:
    stage = Stage([(name, {"cap": 1, "codel_target_s": 1.0, "codel_interval_s": 5.0})])
    for rid in range(20):
        stage.arrive(rid, at_s=10.0 * rid)  # finds the place free
        stage.arrive(100 + rid, 200 + rid, at_s=10.0 * rid)  # wait 9 s
        stage.end(rid, at_s=10.0 * rid + 9.0)
        stage.end(100 + rid, at_s=10.0 * rid + 9.1)
        stage.end(200 + rid, at_s=10.0 * rid + 9.2)
    assert set(stage.status.values()) == {200}
