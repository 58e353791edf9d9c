"""How large a trigger an arm survives at one load: the recovery probability by trigger size, and which size to try next.

The model: a run recovers with a probability that is near 1 far below a threshold size, near 0 far above it, and logistic
in ln k between, less `LAPSE`. Threshold *and* slope are kept on a grid of hypotheses, and the next size is the one expected
to narrow the survived size most (Kontsevich and Tyler 1999, Vision Research 39). The survived size is the k at which
recovery has probability `SURVIVES`. It runs nothing and does not know routers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

SURVIVES = 0.9
LEVEL = 0.9
LAPSE = 0.02
SLOPES = np.geomspace(0.02, 0.6, 12)
"""Widths of the logistic in ln k: from a sharp edge (±9% of k turns 90% into 10%) to a shallow slope."""


@dataclass(frozen=True)
class Survived:
    """The survived size: posterior median, and a `LEVEL` credible interval.

    None is beyond what may be tried: below the least size where `low` is, above the largest where only `high` is.
    """

    k: float | None
    low: float | None
    high: float | None
    tries: int

    @property
    def spread(self) -> float:
        """ln(high/low), infinite where either end is open."""
        return float("inf") if self.low is None or self.high is None else float(np.log(self.high / self.low))


@dataclass(frozen=True)
class Sizes:
    """The sizes that may be tried, ascending: `count` of them, evenly spaced in ln k from `least` to `most`."""

    least: float = 1.25
    most: float = 8.0
    count: int = 25

    def values(self) -> Array:
        return np.round(np.geomspace(self.least, self.most, self.count), 3)


def survived(tries: Iterable[tuple[float, bool]], sizes: Sizes = Sizes()) -> Survived:
    """What the tries (k, recovered) say of the survived size."""
    tries = list(tries)
    grid = _grid(sizes)
    low, mid, high = _quantiles(grid.ln_k, _posterior(grid, tries), ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
    ends = [None if x <= np.log(sizes.least) or x >= np.log(sizes.most) else float(np.exp(x)) for x in (low, mid, high)]
    return Survived(ends[1], ends[0], ends[2], len(tries))


def probability(
    tries: Iterable[tuple[float, bool]], at: Sequence[float], sizes: Sizes = Sizes()
) -> list[tuple[float, float, float]]:
    """(low, mean, high) of the recovery probability at each size in `at`: posterior mean and `LEVEL` credible interval."""
    grid = _grid(sizes)
    weights = _posterior(grid, list(tries))
    found = []
    for k in at:
        p = _recovers(grid, np.log(k))
        low, _, high = _quantiles(p, weights, ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2))
        found.append((low, float(weights @ p), high))
    return found


def next_size(tries: Iterable[tuple[float, bool]], sizes: Sizes = Sizes()) -> tuple[float, float]:
    """(the size whose outcome is expected to tell most, by how much it narrows the posterior sd of ln k). Pure."""
    grid = _grid(sizes)
    weights = _posterior(grid, list(tries))
    ln_k = np.clip(grid.ln_k, np.log(sizes.least), np.log(sizes.most))
    spread = _sd(ln_k, weights)
    best, gain = float(sizes.values()[0]), -1.0
    for k, p in zip(sizes.values(), grid.by_size, strict=True):
        yes = float(weights @ p)
        after = sum(share * _sd(ln_k, weights * q / share) for share, q in ((yes, p), (1 - yes, 1 - p)) if share > 1e-12)
        if spread - after > gain + 1e-12:
            best, gain = float(k), spread - after
    return best, gain


@dataclass(frozen=True)
class _Grid:
    """Hypotheses (threshold, slope) in a row: ln of the survived size, prior, and the recovery probability at each size."""

    threshold: Array
    slope: Array
    ln_k: Array
    prior: Array
    by_size: Array


@lru_cache(maxsize=8)
def _grid(sizes: Sizes) -> _Grid:
    edge = np.log(sizes.most / sizes.least) / 2
    thresholds = np.linspace(np.log(sizes.least) - edge, np.log(sizes.most) + edge, 121)
    threshold, slope = (g.ravel() for g in np.meshgrid(thresholds, SLOPES, indexing="ij"))
    ln_k = threshold - slope * np.log(SURVIVES / (1 - SURVIVES))
    prior = np.full(len(threshold), 1 / len(threshold))
    ks = np.log(sizes.values())
    by_size = LAPSE / 2 + (1 - LAPSE) / (1 + np.exp(np.clip((ks[:, None] - threshold) / slope, -500, 500)))
    return _Grid(threshold, slope, ln_k, prior, by_size)


def _recovers(grid: _Grid, ln_k: float) -> Array:
    p: Array = LAPSE / 2 + (1 - LAPSE) / (1 + np.exp(np.clip((ln_k - grid.threshold) / grid.slope, -500, 500)))
    return p


def _posterior(grid: _Grid, tries: Sequence[tuple[float, bool]]) -> Array:
    log = np.log(grid.prior)
    for k, recovered in tries:
        p = _recovers(grid, float(np.log(k)))
        log = log + np.log(p if recovered else 1 - p)
    weights: Array = np.exp(log - log.max())
    weights /= weights.sum()
    return weights


def _sd(values: Array, weights: Array) -> float:
    mean = float(weights @ values)
    return float(np.sqrt(max(0.0, float(weights @ (values - mean) ** 2))))


def _quantiles(values: Array, weights: Array, at: Sequence[float]) -> list[float]:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return [float(values[order][min(int(np.searchsorted(total, q)), len(order) - 1)]) for q in at]
