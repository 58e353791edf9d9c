"""A trace's own clock: fewer users, more users, or the same users faster."""

import csv
import itertools
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.workloads.traces import AZURE_CONV, slice_file
from workloads.arrivals import Arrivals, TraceClock, session_arrivals
from workloads.arrivals.trace_clock import _paired

Floats = npt.NDArray[np.float64]
COMPRESS = {"process": "trace", "scale": "compress"}
USERS = {"process": "trace"}


def cv(times_s: Floats) -> float:
    gaps = np.diff(times_s)
    return float(gaps.std() / gaps.mean())


def dispersion(times_s: Floats, window_s: float, horizon_s: float) -> float:
    counts = np.histogram(times_s, np.arange(0, horizon_s + window_s / 2, window_s))[0]
    return float(counts.var() / counts.mean())


def keys(arrivals: Arrivals) -> set[tuple[int, int, float]]:
    return set(zip(arrivals.place.tolist(), arrivals.copy.tolist(), arrivals.start_s.tolist(), strict=True))


@pytest.fixture(scope="module")
def azure() -> TraceClock:
    """Start times of the Azure conversation slice, read here by hand: 7-digit fractions, of which Python reads 6."""
    with slice_file(AZURE_CONV).open(newline="") as lines:
        stamps = [row["TIMESTAMP"] for row in csv.DictReader(lines)]
    times = [datetime.fromisoformat(stamp[:26]).timestamp() + int(stamp[26:] or 0) * 1e-7 for stamp in stamps]
    return TraceClock.of(times)


def bursty(n: int = 60_000, gap_cv: float = 2.5) -> TraceClock:
    draw = np.random.default_rng(1)
    return TraceClock.of(np.cumsum(draw.gamma(gap_cv**-2, gap_cv**2, n)))


def test_the_clock_starts_at_zero_and_closes_with_a_mean_gap() -> None:
    """Starts 10, 11, 14 s: gaps 1 and 3, mean 2, so a period of 6 s and 0.5 sessions/s."""
    clock = TraceClock.of([10.0, 11.0, 14.0])
    assert clock.starts_s.tolist() == [0, 1, 4]
    assert clock.span_s == 6.0
    assert clock.rate_rps == 0.5


@pytest.mark.parametrize(
    ("starts_s", "message"),
    [([], "fewer than two"), ([3.0], "fewer than two"), ([3.0, 3.0], "fewer than two"), ([0.0, 5.0, 4.0, 6.0], "do not ascend")],
)
def test_a_clock_needs_ascending_times(starts_s: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=f"arrival.process is 'trace', but the trace.*{message}"):
        TraceClock.of(starts_s)


def test_at_its_own_rate_the_trace_is_itself_and_goes_round() -> None:
    clock = TraceClock.of([10.0, 11.0, 14.0])
    arrivals = session_arrivals(USERS, 0.5, 1.0, 12.0, 0, clock)
    assert arrivals.start_s.tolist() == [-1, 0, 3, 5, 6, 9, 11]
    assert arrivals.place.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert arrivals.copy.tolist() == [0, 0, 0, 1, 1, 1, 3]
    turned = session_arrivals(USERS, 0.5, 0.0, 7.0, 0, clock, 0.75 / clock.span_s)
    assert turned.start_s.tolist() == [0.25, 3.25, 5.25, 6.25], "it begins between two sessions"
    assert turned.place.tolist() == [1, 2, 0, 1]


def test_compressed_it_keeps_every_session_and_stretches_every_gap_alike() -> None:
    """At 1/s twice as fast: 0, 0.5, 2 s, then again from 3 s on."""
    clock = TraceClock.of([10.0, 11.0, 14.0])
    arrivals = session_arrivals(COMPRESS, 1.0, 0.0, 5.6, 0, clock)
    assert arrivals.start_s.tolist() == pytest.approx([0.0, 0.5, 2.0, 3.0, 3.5, 5.0])
    assert arrivals.place.tolist() == [0, 1, 2, 0, 1, 2]
    assert arrivals.copy.tolist() == [0, 0, 0, 1, 1, 1]
    assert session_arrivals(COMPRESS, 1.0, 0.0, 3.0, 0, clock, 1 / clock.span_s * (1 - 1e-12)).start_s.tolist() == pytest.approx(
        [0.0, 1.5, 2.5]
    )


@pytest.mark.parametrize("modulate", [[], [{"shape": "sine", "period_s": 100, "amplitude": 0.7}]])
def test_fewer_users_are_a_subset_of_more(modulate: list[dict[str, Any]]) -> None:
    """Whoever is there at a small rate is there at a larger one at the same time, over whole copies too."""
    clock, arrival = bursty(400), {**USERS, **({"modulate": modulate} if modulate else {})}
    runs = [
        keys(session_arrivals(arrival, f * clock.rate_rps, 30.0, 900.0, 4, clock, 0.3)) for f in (0.1, 0.5, 1.0, 1.7, 2.0, 3.4)
    ]
    for less, more in itertools.pairwise(runs):
        assert less < more


def test_two_layers_are_the_trace_and_a_turned_copy() -> None:
    """At twice its rate each session comes twice a period, its second time by one offset later (round the period)."""
    clock = bursty(500)
    arrivals = session_arrivals(USERS, 2 * clock.rate_rps, 0.0, clock.span_s, 4, clock)
    assert sorted(arrivals.place.tolist()) == sorted([*range(500)] * 2)
    second = arrivals.copy == 2  # layer 1, pass 0
    first_s, second_s = np.empty(500), np.empty(500)
    first_s[arrivals.place[~second]] = arrivals.start_s[~second]
    second_s[arrivals.place[second]] = arrivals.start_s[second]
    shift_s = np.mod(second_s - first_s, clock.span_s)
    assert np.ptp(shift_s) < 1e-9
    assert 0 < shift_s[0] < clock.span_s


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_thinning_pulls_towards_poisson(share: float) -> None:
    """A renewal trace of CV C thinned to a share p has CV² = 1 + p(C² − 1) and IoD = 1 + p(IoD − 1)."""
    clock = bursty()
    arrivals = session_arrivals(USERS, share * clock.rate_rps, 0.0, clock.span_s, 2, clock)
    n = len(clock.starts_s)
    assert len(arrivals.start_s) == pytest.approx(share * n, abs=4 * (n * share * (1 - share)) ** 0.5)
    assert cv(arrivals.start_s) ** 2 == pytest.approx(1 + share * (cv(clock.starts_s) ** 2 - 1), rel=0.05)
    for window_s in (5.0, 50.0):
        whole = dispersion(clock.starts_s, window_s, clock.span_s)
        windows = clock.span_s / window_s
        assert dispersion(arrivals.start_s, window_s, clock.span_s) == pytest.approx(
            1 + share * (whole - 1), rel=4 * (2 / windows) ** 0.5
        )


def test_compressing_keeps_cv_and_raises_dispersion() -> None:
    """Four times as fast: the same CV; a window of 1 s then holds what 4 s held, so its dispersion is that of 4 s."""
    clock = bursty()
    arrivals = session_arrivals(COMPRESS, 4 * clock.rate_rps, 0.0, clock.span_s / 4, 2, clock)
    assert len(arrivals.start_s) == len(clock.starts_s)
    assert cv(arrivals.start_s) == pytest.approx(cv(clock.starts_s), rel=1e-9)
    fast = dispersion(arrivals.start_s, 1.0, clock.span_s / 4)
    assert fast == pytest.approx(dispersion(clock.starts_s, 4.0, clock.span_s), rel=0.01)
    assert fast > 1.2 * dispersion(clock.starts_s, 1.0, clock.span_s)


def test_overlays_are_nearly_independent() -> None:
    """Variances of turned copies add, as means do: eight layers have about the trace's own dispersion, not eight times it."""
    clock = bursty()
    arrivals = session_arrivals(USERS, 8 * clock.rate_rps, 0.0, clock.span_s, 2, clock)
    one, eight = (dispersion(t, 50.0, clock.span_s) for t in (clock.starts_s, arrivals.start_s))
    assert eight == pytest.approx(one, rel=4 * (2 / (clock.span_s / 50)) ** 0.5)
    assert len(arrivals.start_s) == 8 * len(clock.starts_s)


def test_modulated_users_come_and_go() -> None:
    """Twice the users for 5,000 s, none for 5,000 s, then a half: counts follow, and each session keeps its own time."""
    clock = bursty()
    stairs = {"shape": "staircase", "factors": [2, 0, 0.5], "step_s": 5000}
    arrivals = session_arrivals({**USERS, "modulate": stairs}, clock.rate_rps, 0.0, 40_000.0, 2, clock)
    rates = np.histogram(arrivals.start_s, [0, 5000, 10_000, 40_000])[0] / np.array([5000, 5000, 30_000])
    assert rates == pytest.approx([2, 0, 0.5], rel=0.12)
    layer_0 = arrivals.copy == 0
    assert arrivals.start_s[layer_0] == pytest.approx(clock.starts_s[arrivals.place[layer_0]], abs=1e-9)


def test_a_tiny_trace_still_gives_a_small_rate() -> None:
    """Three sessions thinned to a tenth: every pass draws anew, so the rate is right in the long run."""
    clock = TraceClock.of([0.0, 1.0, 4.0])
    arrivals = session_arrivals(USERS, 0.05, 0.0, 60_000.0, 1, clock)
    assert len(arrivals.start_s) == pytest.approx(3000, abs=4 * 3000**0.5)
    assert set(arrivals.place.tolist()) == {0, 1, 2}


def test_pairs_of_layer_and_pass_are_all_different() -> None:
    pairs = np.concatenate([_paired(layer, np.arange(60)) for layer in range(60)])
    assert len(np.unique(pairs)) == 3600
    assert pairs.min() == 0


def test_azure_conversations_thinned_and_compressed(azure: TraceClock) -> None:
    """The slice's own figures, then a quarter of its users, then four times as fast."""
    starts_s = azure.starts_s
    assert len(starts_s) == 9754
    assert cv(starts_s) == pytest.approx(1.073, abs=5e-4)
    assert len(starts_s) / starts_s[-1] == pytest.approx(5.5634, abs=1e-3)
    span_s = azure.span_s
    quarter = session_arrivals(USERS, 0.25 * azure.rate_rps, 0.0, span_s, 3, azure)
    assert len(quarter.start_s) == pytest.approx(9754 / 4, abs=4 * (9754 * 0.25 * 0.75) ** 0.5)
    assert set(quarter.start_s.tolist()) <= set(starts_s.tolist())
    assert cv(quarter.start_s) ** 2 == pytest.approx(1 + 0.25 * (cv(starts_s) ** 2 - 1), rel=0.1)
    fast = session_arrivals(COMPRESS, 4 * azure.rate_rps, 0.0, span_s / 4, 3, azure)
    assert cv(fast.start_s) == pytest.approx(cv(starts_s), rel=1e-6)
    for window_s in (1.0, 10.0, 60.0):
        own = dispersion(starts_s, window_s, span_s)
        thinned = [
            dispersion(session_arrivals(USERS, 0.25 * azure.rate_rps, 0.0, span_s, seed, azure).start_s, window_s, span_s)
            for seed in range(40)
        ]
        assert np.mean(thinned) == pytest.approx(1 + 0.25 * (own - 1), abs=4 * np.std(thinned) / 40**0.5)
        assert dispersion(fast.start_s, window_s, span_s / 4) > 1.15 * own


def test_the_trace_begins_at_a_time_and_not_in_a_burst() -> None:
    """Fifty sessions within a second of every hundred: a run that begins at a random *session* would begin there."""
    clock = TraceClock.of(np.concatenate([100.0 * i + np.linspace(0, 1, 50) for i in range(40)]))
    offsets = np.linspace(0, 1, 400, endpoint=False)
    for arrival in (USERS, COMPRESS):
        made = [len(session_arrivals(arrival, clock.rate_rps, 0.0, 10.0, 1, clock, float(o)).start_s) for o in offsets]
        assert np.mean(made) == pytest.approx(10 * clock.rate_rps, rel=0.15)


def test_a_chain_stays_or_goes_together() -> None:
    chains = np.repeat(np.arange(500), 4)
    clock = TraceClock.of(np.arange(2000.0), chains)
    arrivals = session_arrivals(USERS, 0.25, 0.0, 2000.0, 3, clock)
    kept = np.bincount(chains[arrivals.place], minlength=500)
    assert set(kept.tolist()) <= {0, 4}
    assert len(arrivals.start_s) == pytest.approx(500, abs=160)
