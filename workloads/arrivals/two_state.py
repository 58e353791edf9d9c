"""A rate that jumps at random between two levels, mean 1. It does not know what arrives."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from workloads.arrivals.intensity import Floats, Intensity, check_pieces
from workloads.arrivals.parameters import LONGEST_S, Number, Parameter

Draw = Callable[..., np.random.Generator]
"""Streams of one node of the arrival, by further integer keys > 0 (numpy takes a key that ends in 0 for one without it)."""

# Half a minute in every two and a half at five times the quiet rate: the index of dispersion in long windows is 1 + 38 · rate.
# This, and on/off in equal parts, are choices of this project, not fits to a trace.
MMPP2: Mapping[str, Parameter] = {
    "ratio": Number(5.0, above=1, most=1e6),
    "high_s": Number(30.0, most=LONGEST_S),
    "low_s": Number(120.0, most=LONGEST_S),
}
ON_OFF: Mapping[str, Parameter] = {"on_s": Number(30.0, most=LONGEST_S), "off_s": Number(30.0, most=LONGEST_S)}

_PAST, _FUTURE = 1, 2
_BLOCK = 1024  # even, so that every block of sojourns begins in the same state


def mmpp2(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """Two levels of `ratio`, held for exponential times of mean `high_s` and `low_s` seconds."""
    ratio, high_s, low_s = (float(parameters[name]) for name in ("ratio", "high_s", "low_s"))
    low = (high_s + low_s) / (ratio * high_s + low_s)
    return _path(ratio * low, low, high_s, low_s, begin_s, end_s, draw)


def on_off(parameters: Mapping[str, Any], begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """On for exponential times of mean `on_s`, silent for exponential times of mean `off_s`."""
    on_s, off_s = float(parameters["on_s"]), float(parameters["off_s"])
    return _path((on_s + off_s) / on_s, 0.0, on_s, off_s, begin_s, end_s, draw)


def _path(high: float, low: float, high_s: float, low_s: float, begin_s: float, end_s: float, draw: Draw) -> Intensity:
    """One path in equilibrium, the same for every window: drawn from t=0 forwards, and backwards, as the chain is reversible."""
    check_pieces(2 * (end_s - begin_s) / (high_s + low_s))
    forward = draw(_FUTURE)
    starts_high = bool(forward.random() < high_s / (high_s + low_s))
    levels, means_s = (high, low), (high_s, low_s)
    if not starts_high:
        levels, means_s = levels[::-1], means_s[::-1]
    future_s = _jumps(forward, means_s, end_s)
    past_s = -_jumps(draw(_PAST), means_s, -begin_s)[::-1]
    # The piece that holds t=0 has the first level; `past_s` ends with the time it began.
    begins_s = np.concatenate([past_s, future_s])
    from_zero = np.arange(len(begins_s)) - (len(past_s) - 1)
    values = np.where(from_zero % 2 == 0, levels[0], levels[1])
    return Intensity(begins_s, values.astype(np.float64), np.zeros(len(values))).since(begin_s)


def _jumps(stream: np.random.Generator, means_s: tuple[float, float], until_s: float) -> Floats:
    """Times of the jumps away from t=0, at least to `until_s`, in blocks of one size, so a longer path only appends."""
    means = np.tile(np.array(means_s), _BLOCK // 2)
    times = [np.cumsum(stream.exponential(1.0, _BLOCK) * means)]
    while times[-1][-1] < until_s:
        times.append(times[-1][-1] + np.cumsum(stream.exponential(1.0, _BLOCK) * means))
    return np.concatenate(times)
