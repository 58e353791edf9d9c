"""Waiting for sockets and for the clock at once."""

import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from replay.send.wire import READ, Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(20)]
    yield made
    for pair in made:
        for end in pair:
            end.close()


@pytest.mark.parametrize("wait_s", [0.0002, 0.002, 0.02])
def test_it_returns_when_it_is_time_and_not_before(wire: Wire, wait_s: float) -> None:
    late_s = []
    for _ in range(20):
        until_s = time.monotonic() + wait_s
        wire.serve(until_s)
        while time.monotonic() < until_s:  # nothing came: it may return early and be called again
            wire.serve(until_s)
        late_s.append(time.monotonic() - until_s)
    assert min(late_s) >= 0
    assert sorted(late_s)[5] < 0.002, "on a busy machine not every one is in time"


def test_a_past_time_handles_some_of_what_is_there(wire: Wire, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    seen: list[int] = []

    def see(i: int, events: int) -> None:
        seen.append(i)
        pairs[i][0].recv(9)

    for i, (here, there) in enumerate(pairs):
        wire.watch(here.fileno(), READ, partial(see, i))
        there.send(b"x")
    wire.serve(0.0)
    assert 0 < len(seen) < 20
    wire.serve(0.0)
    assert sorted(seen) == list(range(20))


def test_a_handler_can_call_it_off(wire: Wire, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    (here, there), *_ = pairs
    wire.watch(here.fileno(), READ, lambda events: wire.call_off())
    there.send(b"x")
    began_s = time.monotonic()
    wire.serve(began_s + 5.0)
    assert time.monotonic() - began_s < 2.0
    assert began_s <= wire.now_s <= time.monotonic()


def test_what_is_forgotten_within_a_batch_is_not_called(wire: Wire, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    called: list[int] = []
    (first, a), (second, b), *_ = pairs

    def closes_the_other(this: int, other: int) -> None:
        called.append(this)
        wire.forget(other)

    fds = first.fileno(), second.fileno()
    wire.watch(fds[0], READ, lambda events: closes_the_other(*fds))
    wire.watch(fds[1], READ, lambda events: closes_the_other(*reversed(fds)))
    a.send(b"x")
    b.send(b"x")
    wire.serve(0.0)
    assert len(called) == 1


def test_it_knows_how_long_events_may_have_waited(wire: Wire, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    lags_s: list[float] = []

    def slowly(here: socket.socket, events: int) -> None:
        lags_s.append(wire.read_lag_s)
        here.recv(9)
        time.sleep(0.002)

    for here, _ in pairs:
        wire.watch(here.fileno(), READ, partial(slowly, here))
    sleeping = threading.Timer(0.05, pairs[0][1].send, (b"x",))
    sleeping.start()
    began_s = time.monotonic()
    wire.serve(began_s + 0.1)
    sleeping.join()
    assert lags_s == [pytest.approx(0.0, abs=0.04)], "it came while we waited for it"
    wire.serve(0.0)
    for _, there in pairs:
        there.send(b"x")
    for _ in range(3):
        wire.serve(0.0)
    assert len(lags_s) == 21
    assert min(lags_s[17:]) >= max(lags_s[1:17]) + 0.032, "they waited for the sixteen before them, 2 ms each"
