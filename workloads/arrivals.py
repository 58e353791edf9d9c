"""WHEN sessions start: unit-rate point processes in operational time, and the way from there to seconds. It knows no contents."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """A stationary point process of mean rate 1.

    `make(draw, until, parameters, own)` returns ascending times in [0, until); `own` is the trace's own unit-rate clock.
    `defaults` names its parameters.
    """

    make: Callable[[np.random.Generator, float, Mapping[str, float], Floats], Floats]
    defaults: Mapping[str, float]


def _constant(draw: np.random.Generator, until: float, parameters: Mapping[str, float], own: Floats) -> Floats:
    """Gaps of exactly 1; the first time is uniform in [0, 1)."""
    return np.arange(draw.random(), until, 1.0, dtype=np.float64)


def _poisson(draw: np.random.Generator, until: float, parameters: Mapping[str, float], own: Floats) -> Floats:
    """Exponential gaps: CV 1, index of dispersion 1."""
    return _renewal(draw.exponential(1.0), lambda n: draw.exponential(1.0, n), until)


def _gamma(draw: np.random.Generator, until: float, parameters: Mapping[str, float], own: Floats) -> Floats:
    """Gamma gaps of mean 1 and coefficient of variation `cv`.

    The first gap has the equilibrium law (density 1 − F): a uniform share of a length-biased gap, which is
    Gamma(shape + 1). So the process is stationary from time 0 on.
    """
    cv = parameters["cv"]
    shape, scale = cv**-2, cv**2
    first = draw.random() * draw.gamma(shape + 1, scale)
    return _renewal(first, lambda n: draw.gamma(shape, scale, n), until)


def _renewal(first: float, gaps: Callable[[int], Floats], until: float) -> Floats:
    """Times of a renewal process; gaps are drawn in blocks of one size, so a longer run only appends."""
    times = [np.array([first])]
    while times[-1][-1] < until:
        times.append(times[-1][-1] + np.cumsum(gaps(1024)))
    joined = np.concatenate(times)
    return np.asarray(joined[joined < until])


def _trace(draw: np.random.Generator, until: float, parameters: Mapping[str, float], own: Floats) -> Floats:
    """The trace's own start times, from its first one on, again and again after a mean gap; see `own_clock`."""
    passes = int(until // len(own)) + 1
    times = (np.arange(passes, dtype=np.float64)[:, None] * len(own) + own[None, :]).ravel()
    return np.asarray(times[times < until])


ARRIVALS: dict[str, ArrivalProcess] = {
    "constant": ArrivalProcess(_constant, {}),
    "poisson": ArrivalProcess(_poisson, {}),
    "gamma": ArrivalProcess(_gamma, {"cv": 2.0}),
    "trace": ArrivalProcess(_trace, {}),
}


def check_arrival(arrival: Mapping[str, Any]) -> dict[str, Any]:
    """The arrival {process, …} with defaults filled in; ValueError names the key, the value and what is allowed."""
    name = arrival.get("process")
    if name not in ARRIVALS:
        raise ValueError(f"arrival.process is {name!r}; allowed: {', '.join(ARRIVALS)}")
    defaults = ARRIVALS[name].defaults
    for key, value in arrival.items():
        if key == "process":
            continue
        if key not in defaults:
            raise ValueError(f"arrival.{key} is no parameter of {name!r}; allowed: {', '.join(defaults) or 'none'}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"arrival.{key} is {value!r}; expected a number > 0")
    return {"process": name, **defaults, **{k: v for k, v in arrival.items() if k != "process"}}


def unit_arrivals(arrival: Mapping[str, Any], draw: np.random.Generator, until: float, own: Floats | None = None) -> Floats:
    """Ascending times in [0, until) of a process of mean rate 1; process "trace" needs the trace's `own_clock`."""
    checked = check_arrival(arrival)
    if checked["process"] == "trace" and (own is None or len(own) < 2):
        raise ValueError("arrival.process is 'trace', but this trace has no timestamps; allowed: constant, poisson, gamma")
    return ARRIVALS[checked.pop("process")].make(draw, until, checked, own if own is not None else np.empty(0))


def own_clock(starts_s: Sequence[float], rotation: int) -> Floats:
    """A trace's ascending start times at mean rate 1, from start number `rotation` on, cyclic with one mean gap at the seam.

    Only the time unit changes: every gap is stretched alike, so CV stays and nothing is fitted to a count.
    """
    starts = np.asarray(starts_s, dtype=np.float64)
    if len(starts) < 2 or starts[-1] <= starts[0]:
        raise ValueError("arrival.process is 'trace', but the trace has fewer than two different start times")
    unit = (starts - starts[0]) * ((len(starts) - 1) / (starts[-1] - starts[0]))
    return np.asarray(np.concatenate([unit[rotation:], unit[:rotation] + len(starts)]) - unit[rotation])


def real_times(unit_times: Floats, start_s: float, durations_s: Sequence[float], rates: Sequence[float]) -> Floats:
    """Operational times through the inverse of Λ(t), the integral of a piecewise-constant rate that begins at `start_s`.

    Times beyond Λ's end are left out.
    """
    active = [(begin, d, r) for begin, d, r in _pieces(start_s, durations_s, rates) if d > 0 and r > 0]
    if not active:
        return np.empty(0)
    begins, lengths, speeds = (np.array(column) for column in zip(*active, strict=True))
    mass = np.concatenate([[0.0], np.cumsum(lengths * speeds)])
    inside = unit_times[unit_times < mass[-1]]
    piece = np.searchsorted(mass, inside, side="right") - 1
    return np.asarray(begins[piece] + (inside - mass[piece]) / speeds[piece])


def _pieces(start_s: float, durations_s: Sequence[float], rates: Sequence[float]) -> list[tuple[float, float, float]]:
    begins = start_s + np.concatenate([[0.0], np.cumsum(durations_s)[:-1]])
    return list(zip(begins.tolist(), durations_s, rates, strict=True))
