"""A modulated rate shows in the counts, and only the rate changes: in operational time the process is what it was."""

from itertools import pairwise
from math import exp, pi, sin
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from scipy.integrate import quad

from workloads.arrivals import check_arrival, mean_factor, session_arrivals
from workloads.arrivals.sessions import _factor, _leaves

Floats = npt.NDArray[np.float64]
RATE_RPS = 40.0
SHAPES: list[tuple[dict[str, Any], Any]] = [
    (
        {"shape": "ramp", "begin_s": 100, "for_s": 300, "start": 0.5, "end": 3},
        lambda t: 0.5 + 2.5 * min(max((t - 100) / 300, 0), 1),
    ),
    (
        {"shape": "staircase", "factors": [1, 2, 3, 2, 1, 0.5], "step_s": 60, "begin_s": 40},
        lambda t: [1, 2, 3, 2, 1, 0.5][min(max(int((t - 40) // 60), 0), 5)],
    ),
    (
        {"shape": "sine", "period_s": 200, "amplitude": 0.9, "phase": 0.1},
        lambda t: 1 + 0.9 * sin(2 * pi * (max(t, 0) / 200 + 0.1)),
    ),
    (
        {"shape": "flash_crowd", "k": 5, "at_s": 150, "rise_s": 20, "hold_s": 30, "decay_s": 60},
        lambda t: 1 + 4 * (min(max((t - 150) / 20, 0), 1) if t < 200 else exp(-(t - 200) / 60)),
    ),
]


def run(
    arrival: dict[str, Any], rate_rps: float = RATE_RPS, seed: int = 1, past_s: float = 50.0, horizon_s: float = 600.0
) -> Floats:
    return session_arrivals(arrival, rate_rps, past_s, horizon_s, seed, None).start_s


@pytest.mark.parametrize(("shape", "factor"), SHAPES, ids=lambda v: str(v)[:22])
@pytest.mark.parametrize("process", ["poisson", "constant"])
def test_counts_follow_the_shape(shape: dict[str, Any], factor: Any, process: str) -> None:
    """Counts in windows of 10 s against ∫ rate · factor, the past before t=0 included: χ² for Poisson, ±1 for constant."""
    times = run({"process": process, "modulate": shape})
    edges = np.arange(-50.0, 600.1, 10.0)
    counts = np.histogram(times, edges)[0]
    expected = np.array([RATE_RPS * quad(factor, a, b, limit=200)[0] for a, b in pairwise(edges.tolist())])
    if process == "constant":
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() < 1.01
    else:
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 1e-3 < stats.chi2(len(counts)).cdf(chi_square) < 1 - 1e-3
    for begin_s, end_s in ((-50.0, 20.0), (130.0, 260.0), (0.0, 600.0)):
        mean = quad(factor, begin_s, end_s, limit=500, points=[40, 100, 150, 160, 170, 200, 220])[0] / (end_s - begin_s)
        assert mean_factor({"process": process, "modulate": shape}, begin_s, end_s, 1) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("shape", "factor"), SHAPES, ids=lambda v: str(v)[:22])
def test_time_rescaling(shape: dict[str, Any], factor: Any) -> None:
    """Λ of the arrivals of a modulated Poisson process is a Poisson process of rate 1 (Λ here by the trapezoid rule)."""
    times = run({"process": "poisson", "modulate": shape})
    grid = np.linspace(-50, 600, 650_001)
    values = np.array([factor(t) for t in grid.tolist()])
    mass = np.concatenate([[0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(grid))]) * RATE_RPS
    gaps = np.diff(np.interp(times, grid, mass))
    assert stats.kstest(gaps, "expon").pvalue > 1e-3
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0, abs=4 / len(gaps) ** 0.5)


def test_burstiness_survives_a_change_of_rate() -> None:
    """Gamma gaps of CV 2 at 5/s and then at 15/s: in operational time the CV stays, so it does in either half."""
    stairs = {"shape": "staircase", "factors": [1, 3], "step_s": 2000}
    times = run({"process": "gamma", "cv": 2, "modulate": stairs}, 5.0, past_s=0, horizon_s=4000)
    slow, fast = times[times < 2000], times[times >= 2000]
    assert [len(slow) / 2000, len(fast) / 2000] == pytest.approx([5, 15], rel=0.1)
    for part in (slow, fast):
        gaps = np.diff(part)
        assert gaps.std() / gaps.mean() == pytest.approx(2.0, rel=0.06)


def test_shapes_multiply() -> None:
    """Half the rate for 100 s, then twice; on top of it three times from 50 s on: 0.5, 1.5, 6."""
    one = {"shape": "staircase", "factors": [0.5, 2], "step_s": 100}
    two = {"shape": "staircase", "factors": [1, 3], "step_s": 50}
    arrival = {"process": "constant", "modulate": [one, two]}
    assert [mean_factor(arrival, a, b, 0) for a, b in ((0, 50), (50, 100), (100, 150))] == pytest.approx([0.5, 1.5, 6])
    counts = np.histogram(run(arrival, 2.0, horizon_s=150), [0, 50, 100, 150])[0]
    assert np.abs(counts - [50, 150, 600]).max() <= 1


def test_a_modulated_superposition_modulates_every_part() -> None:
    """One random path above two parts: both are silent at the same times; paths below them are different ones."""
    path = {"shape": "on_off", "on_s": 5, "off_s": 5}
    parts = [{"process": "poisson", "share": 0.5}, {"process": "constant", "share": 0.5}]
    shared = {"superpose": parts, "modulate": path}
    own = {"superpose": [{**part, "modulate": path} for part in parts]}
    seconds = np.arange(-50.0, 600.0)
    factors = [np.array([mean_factor(arrival, t, t, 7) for t in seconds.tolist()]) for arrival in (shared, own)]
    assert set(np.round(factors[0], 6)) == {0.0, 2.0}
    assert set(np.round(factors[1], 6)) == {0.0, 1.0, 2.0}
    silent = np.histogram(run(shared, seed=7), np.arange(-50.0, 601.0))[0][:-1] == 0
    assert silent.sum() > 150
    assert factors[0][:-1][silent].mean() < 0.2


def test_mean_factor_weighs_parts_by_share_and_pieces_by_time() -> None:
    """0.25 · 1 + 0.75 · 3 = 2.5; then 30 s at 1 and 10 s at 5 have mean 2."""
    triple = {"shape": "staircase", "factors": [3], "step_s": 1}
    fivefold = {"shape": "staircase", "factors": [5], "step_s": 1}
    assert mean_factor({"process": "gamma"}, -5, 17, 3) == 1.0
    superposed = {
        "superpose": [{"process": "poisson", "share": 0.25}, {"process": "constant", "share": 0.75, "modulate": triple}]
    }
    assert mean_factor(superposed, 0, 10, 0) == pytest.approx(2.5)
    pieces = {"concatenate": [{"process": "poisson", "for_s": 30}, {"process": "poisson", "modulate": fivefold}]}
    assert [mean_factor(pieces, a, b, 0) for a, b in ((0, 40), (-20, 30), (30, 31))] == pytest.approx([2, 1, 5])


def test_pieces_follow_one_another() -> None:
    """Constant 1/s until 30 s (the past too), silence until 50 s, then 4/s; shapes count from the run's start in every piece."""
    stairs = {"shape": "staircase", "factors": [9, 4], "step_s": 50}
    silent = {"shape": "staircase", "factors": [0], "step_s": 1}
    pieces = [
        {"process": "constant", "for_s": 30},
        {"process": "poisson", "for_s": 20, "modulate": silent},
        {"process": "constant", "modulate": stairs},
    ]
    times = run({"concatenate": pieces}, 1.0, past_s=10.0, horizon_s=80.0)
    assert np.histogram(times, [-10, 0, 30, 50, 80])[0].tolist() == [10, 30, 0, 120]


def test_nested_pieces_count_from_where_their_piece_begins() -> None:
    """Silence for 10 s, then (2/s for 10 s, then silence): arrivals within [10, 20) only."""
    silent = {"process": "poisson", "modulate": {"shape": "staircase", "factors": [0], "step_s": 1}}
    busy = {"process": "constant", "modulate": {"shape": "staircase", "factors": [2], "step_s": 1}, "for_s": 10}
    times = run({"concatenate": [{**silent, "for_s": 10}, {"concatenate": [busy, silent]}]}, 1.0, past_s=5.0, horizon_s=60.0)
    assert len(times) == 20
    assert times[0] >= 10
    assert times[-1] < 20


def test_the_mean_factor_of_a_random_path_is_that_of_the_arrivals() -> None:
    """Counts in windows of 20 s against rate · mean_factor of the very path: χ² finds nothing left to explain."""
    arrival = {"process": "mmpp2", "ratio": 20, "high_s": 8, "low_s": 15}
    edges = np.arange(-40.0, 601.0, 20.0)
    counts = np.histogram(run(arrival, seed=5), edges)[0]
    expected = np.array([RATE_RPS * (b - a) * mean_factor(arrival, a, b, 5) for a, b in pairwise(edges.tolist())])
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 1e-3 < stats.chi2(len(counts)).cdf(chi_square) < 1 - 1e-3
    assert counts.var() / counts.mean() > 50


def test_no_two_random_shapes_of_an_arrival_share_their_numbers() -> None:
    """Paths of a nested arrival, each evaluated alone: all different (numpy takes a key that ends in 0 for one without it)."""
    path = {"shape": "on_off", "on_s": 5, "off_s": 5}
    part = {"process": "on_off", "on_s": 5, "off_s": 5, "modulate": [path, path]}
    parts = [{**part, "share": 0.5}, {"superpose": [{**part, "share": 1}], "share": 0.5, "modulate": [path]}]
    factors = {
        f for leaf in _leaves(check_arrival({"superpose": parts, "modulate": [path]}), 0, 100) for f in map(_key, leaf.factors)
    }
    assert len(factors) == 2 * 3 + 2
    first = {generator_state(*f) for f in factors}
    assert len(first) == len(factors)


def _key(factor: Any) -> tuple[str, tuple[int, ...]]:
    return factor.purpose, factor.path


def generator_state(purpose: str, path: tuple[int, ...]) -> float:
    from workloads.draws import generator

    return float(generator(1, purpose, *path, 2).random())


def test_a_run_needs_no_more_than_its_own_pieces() -> None:
    """A day's sine over an hour is an hour of it, however long the past."""
    sine = check_arrival({"process": "poisson", "modulate": {"shape": "sine", "period_s": 86_400, "amplitude": 0.5}})
    leaf = next(iter(_leaves(sine, -86_400.0, 3600.0)))
    assert len(_factor(leaf, 0).begins_s) < 256 / 24 + 5
