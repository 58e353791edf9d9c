"""Each arrival process has the rate, the CV and the index of dispersion that theory gives it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from workloads.arrivals import ARRIVALS, check_arrival, own_clock, real_times, unit_arrivals
from workloads.description import arrival_statistics, index_of_dispersion
from workloads.draws import generator

N = 40_000


@pytest.mark.parametrize(
    ("arrival", "cv", "iod", "tolerance"),
    [
        ({"process": "constant"}, 0.0, 0.0, 0.02),
        ({"process": "poisson"}, 1.0, 1.0, 0.2),
        ({"process": "gamma", "cv": 0.5}, 0.5, 0.25, 0.05),
        ({"process": "gamma", "cv": 3.0}, 3.0, 9.0, 1.5),
    ],
)
def test_rate_cv_and_dispersion(arrival: Mapping[str, Any], cv: float, iod: float, tolerance: float) -> None:
    """A renewal process has gaps of its CV, and counts in long windows with variance/mean → CV²."""
    times = unit_arrivals(arrival, generator(1, "test"), N)
    facts = arrival_statistics(times)
    assert len(times) == pytest.approx(N, rel=0.04)
    assert facts["gap_cv"] == pytest.approx(cv, rel=0.03, abs=1e-9)
    assert index_of_dispersion(times, 100.0) == pytest.approx(iod, abs=tolerance)
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < N


@pytest.mark.parametrize("arrival", [{"process": "constant"}, {"process": "poisson"}, {"process": "gamma", "cv": 3.0}])
def test_the_rate_is_one_from_the_very_start(arrival: Mapping[str, Any]) -> None:
    """Bursty renewal started with an ordinary gap would have too many arrivals right after t=0."""
    counts = [len(unit_arrivals(arrival, generator(seed, "test"), 0.5)) for seed in range(6000)]
    assert np.mean(counts) == pytest.approx(0.5, abs=4 * np.std(counts) / 6000**0.5 + 1e-9)


def test_the_first_gap_has_the_equilibrium_mean() -> None:
    """E[first] = (1 + CV²) / 2 = 5 for CV 3."""
    first = [unit_arrivals({"process": "gamma", "cv": 3.0}, generator(seed, "test"), 400)[0] for seed in range(4000)]
    assert np.mean(first) == pytest.approx(5.0, abs=4 * np.std(first) / 4000**0.5)


def test_a_longer_run_only_appends() -> None:
    for name in ("constant", "poisson", "gamma"):
        short, long = (unit_arrivals({"process": name}, generator(7, "test"), until) for until in (2000, 5000))
        assert np.array_equal(short, long[: len(short)])


def test_trace_times_keep_their_gaps_and_go_round() -> None:
    """Starts 0, 1, 4 s are 0, 0.5, 2 at mean rate 1, then again from 3 on."""
    times = unit_arrivals({"process": "trace"}, generator(0, "test"), 5.6, own_clock([10.0, 11.0, 14.0], 0))
    assert times.tolist() == [0.0, 0.5, 2.0, 3.0, 3.5, 5.0]
    assert own_clock([10.0, 11.0, 14.0], 1).tolist() == [0.0, 1.5, 2.5]


def test_real_time_is_the_inverse_of_the_summed_rate() -> None:
    """10 s at 2/s, 5 s at 0/s, 10 s at 4/s: number 19 is at 9.5 s, number 20 at 15 s, number 40 at 20 s, all minus 1."""
    times = real_times(np.array([0.0, 19.0, 20.0, 40.0, 59.9, 60.0]), -1.0, [10.0, 5.0, 10.0], [2.0, 0.0, 4.0])
    assert times.tolist() == pytest.approx([-1.0, 8.5, 14.0, 19.0, 23.975])


def test_burstiness_survives_a_change_of_rate() -> None:
    unit = unit_arrivals({"process": "gamma", "cv": 2.0}, generator(1, "test"), 20_000)
    times = real_times(unit, 0.0, [1000.0, 1000.0], [5.0, 15.0])
    slow, fast = times[times < 1000], times[times >= 1000]
    assert [len(slow) / 1000, len(fast) / 1000] == pytest.approx([5, 15], rel=0.1)
    for part in (slow, fast):
        assert arrival_statistics(part)["gap_cv"] == pytest.approx(2.0, rel=0.06)


@pytest.mark.parametrize(
    ("arrival", "message"),
    [
        ({"process": "poison"}, "arrival.process is 'poison'; allowed: constant, poisson, gamma, trace"),
        ({"process": "gamma", "cs": 2}, "arrival.cs is no parameter of 'gamma'; allowed: cv"),
        ({"process": "poisson", "cv": 2}, "arrival.cv is no parameter of 'poisson'; allowed: none"),
        ({"process": "gamma", "cv": 0}, "arrival.cv is 0; expected a number > 0"),
        ({"process": "gamma", "cv": "two"}, "arrival.cv is 'two'"),
    ],
)
def test_bad_arrivals_are_named(arrival: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_arrival(arrival)


def test_trace_arrivals_need_a_clock() -> None:
    assert "trace" in ARRIVALS
    with pytest.raises(ValueError, match="this trace has no timestamps"):
        unit_arrivals({"process": "trace"}, generator(0, "test"), 5.0)
