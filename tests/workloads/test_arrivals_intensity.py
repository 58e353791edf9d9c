"""Λ(t) and its inverse against numeric integration of the formulas themselves."""

import itertools
from collections.abc import Callable
from math import exp, pi, sin
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad

from workloads.arrivals import SHAPES, check_arrival, mean_factor
from workloads.arrivals.intensity import Intensity, steady
from workloads.draws import generator

Factor = Callable[[float], float]


def ramp(t: float) -> float:
    return 0.5 + 2.5 * min(max((t - 10) / 50, 0), 1)


def stairs(t: float) -> float:
    return [1.0, 3.0, 0.0, 2.0][min(max(int((t - 5) // 20), 0), 3)]


def sine(t: float) -> float:
    return 1 + 0.9 * sin(2 * pi * (max(t, 0) / 86.4 + 0.3))


def deep_sine(t: float) -> float:
    return 1 + sin(2 * pi * (max(t, 0) / 30))


def flash(t: float) -> float:
    if t >= 35:
        return 1 + 5 * exp(-(t - 35) / 12)
    return 1 + 5 * min(max((t - 20) / 3, 0), 1)


KNOWN: list[tuple[dict[str, Any], Factor]] = [
    ({"shape": "ramp", "begin_s": 10, "for_s": 50, "start": 0.5, "end": 3}, ramp),
    ({"shape": "staircase", "factors": [1, 3, 0, 2], "step_s": 20, "begin_s": 5}, stairs),
    ({"shape": "sine", "period_s": 86.4, "amplitude": 0.9, "phase": 0.3}, sine),
    ({"shape": "sine", "period_s": 30, "amplitude": 1}, deep_sine),
    ({"shape": "flash_crowd", "k": 6, "at_s": 20, "rise_s": 3, "hold_s": 12, "decay_s": 12}, flash),
]
PAIRS = [(i, j) for i in range(len(KNOWN)) for j in range(i, len(KNOWN))]
BREAKS = [0, 5, 10, 20, 23, 25, 35, 45, 60, 65]


def shape(wanted: dict[str, Any], begin_s: float, end_s: float) -> Intensity:
    name = wanted["shape"]
    checked = check_arrival({"process": "poisson", "modulate": wanted})["modulate"][0]
    return SHAPES[name].make(checked, begin_s, end_s, lambda *key: generator(3, "test", *key))


def integral(factor: Factor, begin_s: float, end_s: float) -> float:
    cuts = [begin_s, *(b for b in BREAKS if begin_s < b < end_s), end_s]
    return sum(quad(factor, a, b, epsabs=1e-12, epsrel=1e-12, limit=400)[0] for a, b in itertools.pairwise(cuts))


@pytest.mark.parametrize(("wanted", "factor"), KNOWN, ids=lambda v: str(v)[:30])
@pytest.mark.parametrize("begin_s", [-15.0, 0.0, 22.7])
def test_the_integral_is_that_of_the_formula(wanted: dict[str, Any], factor: Factor, begin_s: float) -> None:
    """Λ over any ten seconds or more is right to 1e-6 of itself, also in the held past and where the shape is cut into."""
    made = shape(wanted, begin_s, 150)
    for end_s in (begin_s + 10.3, 33.33, 61.7, 100.1, 150.0):
        assert made.mass(np.array([end_s]))[0] == pytest.approx(integral(factor, begin_s, end_s), rel=1e-6, abs=1e-6)
    times = np.linspace(begin_s, 149.9, 500)
    assert made.value(times) == pytest.approx([factor(t) for t in times.tolist()], abs=2e-3)
    assert made.peak(150) == pytest.approx(max(factor(t) for t in np.linspace(begin_s, 150, 20_001).tolist()), abs=2e-3)


@pytest.mark.parametrize(("i", "j"), PAIRS)
def test_a_product_integrates_to_one_millionth(i: int, j: int) -> None:
    """The product of two lines is a parabola, which is replaced by lines: the error of Λ stays below 1e-6."""
    (one, f), (two, g) = KNOWN[i], KNOWN[j]
    made = steady(-10.0).times(shape(one, -10, 150)).times(shape(two, -10, 150))
    for end_s in (7.0, 33.33, 61.7, 150.0):
        expected = integral(lambda t: f(t) * g(t), -10, end_s)
        assert made.mass(np.array([end_s]))[0] == pytest.approx(expected, rel=1e-6)


def test_a_product_of_long_ramps_is_cut() -> None:
    """Two ramps over an hour, t² / 3600² in all: Λ(t) = t³ / (3 · 3600²), and the lines do not miss it in between."""
    ramp = shape({"shape": "ramp", "begin_s": 0, "for_s": 3600, "start": 0, "end": 1}, 0, 3600)
    times = np.linspace(100, 3600, 999)
    product = ramp.times(ramp)
    assert product.mass(times) == pytest.approx(times**3 / (3 * 3600**2), abs=1e-6 * 1200)
    assert len(product.begins_s) < 100


@pytest.mark.parametrize(
    "wanted", [*(w for w, _ in KNOWN), {"shape": "mmpp2"}, {"shape": "on_off", "on_s": 2, "off_s": 3}], ids=str
)
def test_the_inverse_is_exact(wanted: dict[str, Any]) -> None:
    """Λ(Λ⁻¹(m)) = m; Λ⁻¹ ascends, and no time falls where the rate is 0."""
    made = shape(wanted, -20, 200)
    mass = np.linspace(0, made.mass(np.array([200.0]))[0], 5001)[:-1]
    times = made.time(mass)
    assert made.mass(times) == pytest.approx(mass, rel=1e-10, abs=1e-9)
    assert np.all(np.diff(times) >= 0)
    inside = times[1:-1]
    assert np.all(made.value(inside) + made.value(inside + 1e-9) > 0)


def test_piecewise_by_hand() -> None:
    """10 s at 2, 5 s at 0, then from 1 up by 0.5 a second for 4 s, then 3: masses 20, 20, 28; Λ⁻¹(20) skips the gap."""
    made = Intensity(np.array([0.0, 10.0, 15.0, 19.0]), np.array([2.0, 0.0, 1.0, 3.0]), np.array([0.0, 0.0, 0.5, 0.0]))
    assert made.masses.tolist() == [0, 20, 20, 28]
    assert made.time(np.array([0.0, 19.0, 20.0, 23.0, 28.0, 31.0])).tolist() == pytest.approx([0, 9.5, 15, 17, 19, 20])
    assert made.mean(5, 15) == pytest.approx(1.0)
    assert made.since(16.0).masses.tolist() == pytest.approx([0, 6.75])
    assert made.since(-2.0, held=7.0).mass(np.array([0.0, 10.0])).tolist() == [14, 34]


@pytest.mark.parametrize("end_s", [11.0, 500.0])
@pytest.mark.parametrize("begin_s", [-3.0, 0.0, 10.0])
def test_jumps_are_jumps(begin_s: float, end_s: float) -> None:
    """A flash crowd without rise and decay is 5 for its 2 s of hold; without hold too it is nothing at all."""
    flash = {"shape": "flash_crowd", "k": 5, "at_s": 10, "rise_s": 0, "hold_s": 2, "decay_s": 0}
    made = shape(flash, begin_s, end_s)
    assert made.mass(np.array([20.0])) - made.mass(np.array([begin_s])) == pytest.approx(20 - begin_s + 8)
    assert made.value(np.array([10.0, 11.999, 12.0])).tolist() == [5, 5, 1]
    nothing = shape({**flash, "hold_s": 0}, begin_s, end_s)
    assert nothing.mass(np.array([20.0])).tolist() == [20 - begin_s]


@pytest.mark.parametrize("name", ["mmpp2", "on_off"])
def test_a_random_path_is_one_path_whatever_is_asked_of_it(name: str) -> None:
    """Seen from another begin and to another end, the same jumps."""
    wanted = {"shape": name}
    wide, narrow = shape(wanted, -5000, 9000), shape(wanted, -100, 300)
    times = np.linspace(-100, 299, 4001)
    assert np.array_equal(wide.value(times), narrow.value(times))


@pytest.mark.parametrize(
    ("wanted", "share", "levels"),
    [
        ({"shape": "mmpp2", "ratio": 7, "high_s": 2, "low_s": 6}, 0.25, (0.4, 2.8)),
        ({"shape": "on_off", "on_s": 2, "off_s": 6}, 0.25, (0.0, 4.0)),
    ],
)
def test_a_random_path_has_mean_one_and_its_sojourns(wanted: dict[str, Any], share: float, levels: tuple[float, float]) -> None:
    """High for a quarter of the time in stays of exponential length, mean 2 and 6 s, on both sides of t=0."""
    made = shape(wanted, -40_000, 40_000)
    assert sorted(set(made.values.tolist())) == pytest.approx(levels)
    lengths_s = np.diff(made.begins_s)[1:]
    high = made.values[1:-1] > 1
    for stays, mean_s in ((lengths_s[high], 2), (lengths_s[~high], 6)):
        assert np.mean(stays) == pytest.approx(mean_s, abs=4 * mean_s / len(stays) ** 0.5)
        assert np.std(stays) == pytest.approx(mean_s, rel=0.05)
    for begin_s, end_s in ((-40_000, 0), (0, 40_000)):
        assert made.since(begin_s).mean(begin_s, end_s) == pytest.approx(1, abs=0.08)
    assert share * max(levels) + (1 - share) * min(levels) == pytest.approx(1)


def test_a_random_path_starts_in_equilibrium() -> None:
    """Over many seeds the factor at t=0, and before and after, has mean 1."""
    modulated = {"process": "poisson", "modulate": {"shape": "on_off", "on_s": 5, "off_s": 15}}
    for at_s in (-30.0, 0.0, 4.0):
        high = np.array([mean_factor(modulated, at_s, at_s, seed) for seed in range(1500)]) / 4
        assert high.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 1500) ** 0.5)
