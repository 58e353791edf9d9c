"""Each arrival process has the rate, the CV and the index of dispersion that theory gives it."""

from collections.abc import Mapping
from functools import partial
from math import exp, gamma
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from workloads.arrivals import check_arrival, session_arrivals
from workloads.arrivals.client_mix import drawn_clients
from workloads.arrivals.renewal import weibull_shape
from workloads.draws import generator

Floats = npt.NDArray[np.float64]
N = 200_000


def unit(arrival: Mapping[str, Any], horizon_s: float, seed: int = 1, rate_rps: float = 1.0) -> Floats:
    return session_arrivals(arrival, rate_rps, 0.0, horizon_s, seed, None).start_s


def cv(times_s: Floats) -> float:
    gaps = np.diff(times_s)
    return float(gaps.std() / gaps.mean())


def dispersion(times_s: Floats, window_s: float, horizon_s: float) -> float:
    """Variance over mean of the counts in whole windows from t=0."""
    counts = np.histogram(times_s, bins=np.arange(0, horizon_s + window_s / 2, window_s))[0]
    return float(counts.var(ddof=1) / counts.mean())


def third_central_moment(process: str, cv: float) -> float:
    """Of a gap of mean 1."""
    if process == "gamma":
        return 2 * cv**4
    shape = weibull_shape(cv)
    one, two, three = (gamma(1 + k / shape) for k in (1, 2, 3))
    return (three - 3 * two * one + 2 * one**3) / one**3


@pytest.mark.parametrize("process", ["gamma", "weibull"])
@pytest.mark.parametrize("wanted", [0.3, 1.0, 2.0, 3.0])
def test_renewal_rate_cv_and_dispersion(process: str, wanted: float) -> None:
    """Gaps of the CV; counts in a window t of variance CV²·t + 1/6 + CV⁴/2 − μ₃/3 (Cox, Renewal Theory, 1962, ch. 4)."""
    times = unit({"process": process, "cv": wanted}, N)
    assert len(times) / N == pytest.approx(1, abs=4 * wanted / N**0.5)
    assert cv(times) == pytest.approx(wanted, rel=0.03)
    window = 200.0
    expected = wanted**2 + (1 / 6 + wanted**4 / 2 - third_central_moment(process, wanted) / 3) / window
    assert dispersion(times, window, N) == pytest.approx(expected, rel=4 * (2 / (N / window)) ** 0.5)


def test_poisson_has_cv_one_and_dispersion_one_in_every_window() -> None:
    times = unit({"process": "poisson"}, N)
    assert len(times) == pytest.approx(N, abs=4 * N**0.5)
    assert cv(times) == pytest.approx(1, abs=0.01)
    for window in (0.5, 10.0, 100.0):
        assert dispersion(times, window, N) == pytest.approx(1, abs=4 * (2 / (N / window)) ** 0.5)
    assert stats.kstest(np.diff(times), "expon").pvalue > 1e-3


def test_constant_is_evenly_spaced() -> None:
    """Four a second: gaps of 0.25 s to the last bit that a time in seconds has, and the phase is the seed's."""
    runs = [unit({"process": "constant"}, 1000, seed, 4.0) for seed in range(50)]
    for times in runs:
        assert np.diff(times) == pytest.approx(np.full(len(times) - 1, 0.25), abs=1e-12)
        assert len(times) in (4000, 4001)
        assert dispersion(times, 10.0, 1000.0) < 0.01
    assert stats.kstest([times[0] * 4 for times in runs], "uniform").pvalue > 1e-3


@pytest.mark.parametrize("process", ["gamma", "weibull"])
def test_weibull_and_gamma_gaps_have_their_law(process: str) -> None:
    gaps = np.diff(unit({"process": process, "cv": 2.0}, 20_000))
    shape = weibull_shape(2.0)
    law = stats.gamma(0.25, scale=4) if process == "gamma" else stats.weibull_min(shape, scale=1 / gamma(1 + 1 / shape))
    assert stats.kstest(gaps, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("wanted", [1e-6, 0.01, 0.5, 1.0, 1.2, 3.45, 20.0, 100.0])
def test_the_weibull_shape_solves_its_equation(wanted: float) -> None:
    """Against scipy's own moments; CV 1 is the exponential."""
    shape = weibull_shape(wanted)
    if wanted == 1.0:
        assert shape == pytest.approx(1.0)
    if 0.01 <= wanted <= 20:
        law = stats.weibull_min(shape)
        assert law.std() / law.mean() == pytest.approx(wanted, rel=1e-6)
    assert shape > weibull_shape(wanted * 1.01)


@pytest.mark.parametrize("process", ["gamma", "weibull"])
def test_the_first_gap_has_the_equilibrium_law(process: str) -> None:
    """Density 1 − F, so mean (1 + CV²) / 2; an ordinary first gap would have mean 1 and a burst at the very start."""
    wanted = 1.5
    first = [unit({"process": process, "cv": wanted}, 400, seed)[0] for seed in range(3000)]
    assert np.mean(first) == pytest.approx((1 + wanted**2) / 2, abs=4 * np.std(first) / 3000**0.5)
    shape = weibull_shape(wanted)
    law = (
        stats.gamma(wanted**-2, scale=wanted**2)
        if process == "gamma"
        else stats.weibull_min(shape, scale=1 / gamma(1 + 1 / shape))
    )
    grid = np.linspace(0, 60, 60_001)
    integral = np.concatenate([[0], np.cumsum((law.sf(grid[1:]) + law.sf(grid[:-1])) / 2 * np.diff(grid))])
    assert stats.kstest(first, lambda x: np.interp(x, grid, integral)).pvalue > 1e-3


@pytest.mark.parametrize("process", ["constant", "poisson", "gamma", "weibull", "mmpp2", "on_off", "client_mix"])
def test_the_rate_is_right_from_the_very_start(process: str) -> None:
    """In the first half second over many seeds; bursty renewal begun with an ordinary gap would have too many there."""
    counts = np.array([len(unit({"process": process}, 0.5, seed)) for seed in range(1500)])
    assert counts.mean() == pytest.approx(0.5, abs=4 * counts.std() / 1500**0.5)


@pytest.mark.parametrize(
    ("arrival", "levels", "leaving"),
    [
        ({"process": "mmpp2", "ratio": 6, "high_s": 3, "low_s": 9}, (6 / 2.25, 1 / 2.25), (1 / 3, 1 / 9)),
        ({"process": "on_off", "on_s": 2, "off_s": 6}, (4.0, 0.0), (1 / 2, 1 / 6)),
    ],
)
def test_two_state_dispersion(arrival: dict[str, Any], levels: tuple[float, float], leaving: tuple[float, float]) -> None:
    """IoD(t) = 1 + I∞·(1 − (1 − e^(−σt)) / (σt)), σ = σ₁ + σ₂, I∞ = 2σ₁σ₂(λ₁ − λ₂)² / (σ²(λ₁σ₂ + λ₂σ₁)).

    The rate's covariance is its variance times e^(−σ|τ|); twice integrated over the window it adds to Poisson's variance.
    """
    rate_rps, horizon_s = 5.0, 60_000.0
    one, two = (rate_rps * level for level in levels)
    sigma = sum(leaving)
    beyond = 2 * leaving[0] * leaving[1] * (one - two) ** 2 / (sigma**2 * (one * leaving[1] + two * leaving[0]))
    times = unit(arrival, horizon_s, 3, rate_rps)
    assert len(times) / horizon_s == pytest.approx(rate_rps, abs=4 * (rate_rps * (1 + beyond) / horizon_s) ** 0.5)
    for window_s in (1.0, 10.0, 60.0):
        expected = 1 + beyond * (1 - (1 - exp(-sigma * window_s)) / (sigma * window_s))
        assert dispersion(times, window_s, horizon_s) == pytest.approx(expected, rel=0.12)
    assert cv(times) > 1.2


def test_a_superposition_of_poissons_is_poisson() -> None:
    """Shares 0.2 and 0.8; the whole has exponential gaps and dispersion 1."""
    parts = [{"process": "poisson", "share": share} for share in (0.2, 0.5, 0.3)]
    times = unit({"superpose": parts}, 50_000)
    assert len(times) == pytest.approx(50_000, abs=4 * 50_000**0.5)
    assert stats.kstest(np.diff(times), "expon").pvalue > 1e-3
    assert dispersion(times, 10.0, 50_000) == pytest.approx(1, abs=4 * (2 / 5000) ** 0.5)


def test_a_superposition_mixes_dispersions_by_share() -> None:
    """Variances add: shares 0.25 of CV 3 and 0.75 of constants give an index of dispersion of 0.25 · 9."""
    parts = [{"process": "gamma", "cv": 3, "share": 0.25}, {"process": "constant", "share": 0.75}]
    times = unit({"superpose": parts}, N)
    assert dispersion(times, 200.0, N) == pytest.approx(0.25 * 9, rel=4 * (2 / 1000) ** 0.5 + 0.03)


def test_streams_of_a_superposition_are_independent() -> None:
    """The parts, told apart by a rate that one of them lacks, do not follow each other: equal parts are not equal."""
    halves = [{"process": "poisson", "share": 0.5, "modulate": on} for on in ([_gate(1, 0)], [_gate(0, 1)])]
    times = unit({"superpose": halves}, 2000.0, rate_rps=2.0)
    first, second = times[times < 1000], times[times >= 1000] - 1000
    assert len(first) > 900
    assert len(second) > 900
    assert not np.allclose(first[:50], second[:50])


def _gate(before: float, after: float) -> dict[str, Any]:
    return {"shape": "staircase", "factors": [before, after], "step_s": 1000}


def test_the_client_mix_is_the_sum_of_its_clients() -> None:
    """Rate 1; dispersion Σ shareᵢ·CVᵢ² in long windows; the top ten of forty clients with Zipf shares send H₁₀ / H₄₀ = 68%."""
    arrival = check_arrival({"process": "client_mix", "cv_sigma": 0.5})
    shares, cvs, weibull = drawn_clients(arrival, partial(generator, 1, "arrivals"))
    assert shares.sum() == pytest.approx(1)
    assert shares[:10].sum() == pytest.approx(sum(1 / i for i in range(1, 11)) / sum(1 / i for i in range(1, 41)))
    assert 0 < weibull.sum() < 40
    expected = float((shares * cvs**2).sum())
    times = unit(arrival, 400_000)
    assert len(times) / 400_000 == pytest.approx(1, abs=4 * (expected / 400_000) ** 0.5)
    assert dispersion(times, 1000.0, 400_000) == pytest.approx(expected, rel=4 * (2 / 400) ** 0.5)


def test_the_client_mix_has_servegens_figures() -> None:
    """Over seeds: median client CV 1.0 to 1.4, top ten 63–93% of the requests, Weibull in 16–30%."""
    drawn = [drawn_clients(check_arrival({"process": "client_mix"}), partial(generator, s, "arrivals")) for s in range(200)]
    cvs = np.array([cvs for _, cvs, _ in drawn])
    assert 1.0 < np.median(cvs) < 1.4
    assert np.std(np.log(cvs)) == pytest.approx(0.9, rel=0.05)
    assert 0.63 < drawn[0][0][:10].sum() < 0.93
    assert 0.16 < np.mean([weibull.mean() for *_, weibull in drawn]) < 0.30
