"""Which seconds of ServeGen's clients are drawn, and which share of their requests. It does not draw them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workloads.sources.servegen.windows import WINDOW_S, ClientWindows

PARAMETERS = ("model", "begin_s", "end_s", "rate")
_HOUR_S, _DAY_S = 3600, 86_400
_DEFAULT_REQUESTS, _MOST_REQUESTS = 1_000_000, 100_000_000


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds on the release's clock, and the share of all requests that is kept."""

    begin_s: float
    end_s: float
    share: float


def chosen_span(found: list[ClientWindows], columns: Mapping[str, str], folder: Path) -> Span:
    """The span that begin_s, end_s and rate say; by default the busiest hour of the first day. Raises ValueError."""
    share = _parameter(columns, "rate", 1.0)
    begin, end = _parameter(columns, "begin_s", -1.0), _parameter(columns, "end_s", -1.0)
    if not 0 < share <= 1:
        raise ValueError(f"columns.rate is {columns['rate']!r}; allowed: a share > 0 and ≤ 1 of the clients' requests")
    if begin < 0 and end < 0:
        begin, end = _busiest(found, share)
    elif end < 0:
        end = begin + _HOUR_S
    elif begin < 0:
        begin = max(0.0, end - _HOUR_S)
    expected = _expected(found, begin, end) * share
    if not expected:
        raise ValueError(f"{folder}: no client has traffic within seconds {begin:g} to {end:g}; allowed: begin_s < end_s")
    if expected > _MOST_REQUESTS:
        raise ValueError(f"{folder}: about {expected:.3g} requests within begin_s … end_s; allowed: up to {_MOST_REQUESTS:,}")
    return Span(begin, end, share)


def _parameter(columns: Mapping[str, str], key: str, default: float) -> float:
    if key not in columns:
        return default
    try:
        value = float(columns[key])
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e10:
        raise ValueError(f"columns.{key} is {columns[key]!r}; allowed: a number ≥ 0")
    return value


def _expected(found: list[ClientWindows], begin_s: float, end_s: float) -> float:
    """Requests to be expected within [begin_s, end_s)."""
    inside = [np.clip(np.minimum(c.begin_s + WINDOW_S, end_s) - np.maximum(c.begin_s, begin_s), 0, None) for c in found]
    return float(sum((c.rate_rps * (c.family > 0)) @ seconds for c, seconds in zip(found, inside, strict=True)))


def _busiest(found: list[ClientWindows], share: float) -> tuple[float, float]:
    """The busiest hour of day 0 (or of the first day that there is), cut where the default number of requests is expected."""
    day = min((int(c.begin_s[0]) // _DAY_S for c in found if len(c.begin_s)), default=0) * _DAY_S
    begin = float(max(range(day, day + _DAY_S, _HOUR_S), key=lambda s: _expected(found, s, s + _HOUR_S)))
    end = begin + _HOUR_S
    if _expected(found, begin, end) * share <= _DEFAULT_REQUESTS:
        return begin, end
    least = begin
    while end - least > 1e-3:
        middle = (least + end) / 2
        least, end = (least, middle) if _expected(found, begin, middle) * share > _DEFAULT_REQUESTS else (middle, end)
    return begin, end
