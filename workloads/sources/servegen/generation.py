"""Arrivals of one client: a renewal process whose rate and law change from window to window. It knows no tokens."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workloads.sources.servegen.windows import WINDOW_S, ClientWindows, Floats

_GAMMA = 1
_MOST_A_WINDOW = 1 << 23


@dataclass(slots=True)
class ClientArrivals:
    """The client's requests window after window, in time order (`times` must be called in that order).

    Gaps have mean 1 in operational time, the integral of the client's rate, and the shape of the window in which they begin. A
    gap that reaches beyond its window goes on in the next one (windows are joined, silence between them costs nothing), the first
    one is drawn from the equilibrium law, so every window has its rate in expectation, and nothing is fitted to a count.
    """

    client: ClientWindows
    draw: np.random.Generator
    _next: float = math.nan
    _mass: float = 0.0

    def times(self, window: int, begin_s: float, end_s: float) -> Floats:
        """Arrivals of the window number `window` of the client within [begin_s, end_s)."""
        c = self.client
        start = max(begin_s, float(c.begin_s[window]))
        length = min(end_s, float(c.begin_s[window]) + WINDOW_S) - start
        rate, family, shape = float(c.rate_rps[window]), int(c.family[window]), float(c.shape[window])
        if not family or length <= 0:
            return np.empty(0)
        if math.isnan(self._next):
            self._next = equilibrium_gap(family, shape, self.draw)
        until = self._mass + rate * length
        found = [np.empty(0)]
        count = 0
        while self._next < until:
            expected = until - self._next
            points = self._next + np.cumsum(unit_gaps(family, shape, int(1.1 * expected) + 16, self.draw))
            inside = int(np.searchsorted(points, until))
            found += [np.array([self._next]), points[: min(inside, len(points) - 1)]]
            self._next = float(points[min(inside, len(points) - 1)])
            count += inside + 1
            if count > _MOST_A_WINDOW:
                raise ValueError(f"{c.dataset}: client {c.client} asks more than {_MOST_A_WINDOW} times within {WINDOW_S} s")
        times = start + (np.concatenate(found) - self._mass) / rate
        self._mass = until
        return np.minimum(times, np.nextafter(start + length, start))  # rounding must not move one into the next window


def unit_gaps(family: int, shape: float, count: int, draw: np.random.Generator) -> Floats:
    """Gaps of mean 1 with the shape of a Gamma or a Weibull law."""
    if family == _GAMMA:
        return draw.standard_gamma(shape, count) / shape
    return draw.weibull(shape, count) / math.gamma(1 + 1 / shape)


def equilibrium_gap(family: int, shape: float, draw: np.random.Generator) -> float:
    """The time to the first event after any moment: a uniform share of a gap drawn in proportion to its length (Cox 1962)."""
    if family == _GAMMA:
        return float(draw.random() * draw.standard_gamma(shape + 1) / shape)
    return float(draw.random() * draw.standard_gamma(1 + 1 / shape) ** (1 / shape) / math.gamma(1 + 1 / shape))


def unit_cv(family: int, shape: float) -> float:
    """CV of the gaps: Gamma 1/√k; Weibull √(Γ(1+2/c)/Γ(1+1/c)² − 1)."""
    if family == _GAMMA:
        return 1 / math.sqrt(shape)
    return math.sqrt(math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)) - 1)


def window_starts(clients: list[ClientWindows], begin_s: float, end_s: float) -> Iterator[int]:
    """The windows that any client has within [begin_s, end_s), ascending."""
    starts = np.unique(np.concatenate([c.begin_s for c in clients] or [np.empty(0, dtype=np.int64)]))
    yield from starts[(starts + WINDOW_S > begin_s) & (starts < end_s)].tolist()
