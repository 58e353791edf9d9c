"""How the rate changes over time: the known shapes by name. They do not know what arrives."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, expm1, floor, pi, sin
from typing import Any

import numpy as np

from workloads.arrivals.intensity import Floats, Intensity, check_pieces, smooth
from workloads.arrivals.parameters import LONGEST_S, Number, Numbers, Parameter
from workloads.arrivals.two_state import MMPP2, ON_OFF, Draw, mmpp2, on_off

_PIECES_A_PERIOD = 256
_PIECES_A_DECAY = 64
_STEP_S = 1e-6  # what is no longer is a jump: a run's times are whole microseconds
_DECAYS = 40  # e⁻⁴⁰ is below a double's resolution beside 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A factor of the rate. `make(parameters, begin_s, end_s, draw)` holds from `begin_s` on and is right at least to `end_s`.

    Times are seconds of the run; before t=0 a shape keeps its value at 0, except for the random ones, which have a past.
    """

    make: Callable[[Mapping[str, Any], float, float, Draw], Intensity]
    parameters: Mapping[str, Parameter]


def _ramp(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """`start` until `begin_s`, then in a straight line within `for_s` to `end`, which stays."""
    start, end, at_s, for_s = (float(parameters[k]) for k in ("start", "end", "begin_s", "for_s"))
    return _lines([(0.0, start, 0.0), (at_s, start, (end - start) / for_s), (at_s + for_s, end, 0.0)]).since(begin_s)


def _staircase(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """One factor after the other, `step_s` each, from `begin_s` on; the first holds before, the last after."""
    factors, at_s, step_s = parameters["factors"], float(parameters["begin_s"]), float(parameters["step_s"])
    steps = [(at_s + i * step_s, float(factor), 0.0) for i, factor in enumerate(factors)]
    return _lines(steps).since(begin_s)


def _sine(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """1 + amplitude · sin(2π(t / period_s + phase)), in 256 lines a period.

    Λ is exact where lines meet and off by less than 3e-8 of a period between (amplitude 1).
    """
    period_s, amplitude, turn = float(parameters["period_s"]), float(parameters["amplitude"]), 2 * pi * float(parameters["phase"])
    length_s = period_s / _PIECES_A_PERIOD
    first, last = floor(max(begin_s, 0.0) / length_s), ceil(max(end_s, 0.0) / length_s)
    check_pieces(last - first)
    omega, half = 2 * pi / period_s, pi / _PIECES_A_PERIOD
    numbers = np.arange(first, max(last, first + 1) + 1, dtype=np.float64)
    middles = omega * (numbers[:-1] + 0.5) * length_s + turn
    means: Floats = 1 + amplitude * np.sin(middles) * (sin(half) / half)
    slopes = amplitude * np.cos(middles) * (2 * sin(half) / length_s)
    made = smooth(numbers * length_s, means, slopes, float(means[-1]))
    return made.since(begin_s, held=1 + amplitude * sin(turn))


def _flash_crowd(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """1 until `at_s`, in a line within `rise_s` to `k`, `hold_s` at k, then 1 + (k − 1)·exp(−t / decay_s), in 64 lines a decay.

    Λ is exact where lines meet and off by less than 1e-7 · (k − 1) · decay_s between.
    """
    k, at_s, rise_s, hold_s, decay_s = (float(parameters[name]) for name in ("k", "at_s", "rise_s", "hold_s", "decay_s"))
    top_s, fall_s = at_s + rise_s, at_s + rise_s + hold_s
    before = [(0.0, 1.0, 0.0), *([(at_s, 1.0, (k - 1) / rise_s)] if rise_s > _STEP_S else []), (top_s, k, 0.0)]
    rise, fall = _lines(before), _decay(k, fall_s, decay_s)
    return Intensity(
        np.concatenate([rise.begins_s, fall.begins_s]),
        np.concatenate([rise.values, fall.values]),
        np.concatenate([rise.slopes, fall.slopes]),
    ).since(begin_s)


def _decay(k: float, at_s: float, decay_s: float) -> Intensity:
    """From `k` at `at_s` exponentially back to 1."""
    if decay_s <= _STEP_S:
        return _lines([(at_s, 1.0, 0.0)])
    step = 1 / _PIECES_A_DECAY
    decays = np.arange(_DECAYS * _PIECES_A_DECAY + 1, dtype=np.float64) * step
    above: Floats = (k - 1) * np.exp(-decays[:-1])
    return smooth(at_s + decays * decay_s, 1 - above * (expm1(-step) / step), above * expm1(-step) / (step * decay_s), 1.0)


def _lines(pieces: Sequence[tuple[float, float, float]]) -> Intensity:
    """Pieces (begin, value, slope) as they stand."""
    begins, values, slopes = (np.array(column, dtype=np.float64) for column in zip(*pieces, strict=True))
    return Intensity(begins, values, slopes)


_FACTOR = Number(from_zero=True, most=1e6)
_TIME, _SINCE_START = Number(from_zero=True, most=LONGEST_S), Number(0.0, from_zero=True, most=LONGEST_S)
SHAPES: dict[str, Shape] = {
    "ramp": Shape(_ramp, {"begin_s": _TIME, "for_s": Number(above=_STEP_S, most=LONGEST_S), "start": _FACTOR, "end": _FACTOR}),
    "staircase": Shape(
        _staircase, {"factors": Numbers(most=1e6), "step_s": Number(above=_STEP_S, most=LONGEST_S), "begin_s": _SINCE_START}
    ),
    "sine": Shape(
        _sine,
        {
            "period_s": Number(above=_STEP_S, most=LONGEST_S),
            "amplitude": Number(from_zero=True, most=1),
            "phase": Number(0.0, from_zero=True, most=1),
        },
    ),
    "flash_crowd": Shape(
        _flash_crowd, {"k": Number(above=1, most=1e6), "at_s": _TIME, "rise_s": _TIME, "hold_s": _TIME, "decay_s": _TIME}
    ),
    "mmpp2": Shape(mmpp2, MMPP2),
    "on_off": Shape(on_off, ON_OFF),
}
