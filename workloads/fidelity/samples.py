"""Two samples, the first one weighted: quantiles, Kolmogorov–Smirnov and Wasserstein-1. It does not know what was sampled."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
KS_5_PERCENT = 1.36


@dataclass(frozen=True, eq=False)
class Sample:
    """Ascending values with their weights (sum 1); `independent` of them carry information of their own (sessions)."""

    values: Floats
    weights: Floats
    independent: int

    @staticmethod
    def of(values: npt.ArrayLike, independent: int, weights: Floats | None = None) -> "Sample | None":
        """None without a value of positive weight."""
        plain = np.asarray(values, dtype=np.float64)
        known = np.ones(len(plain)) if weights is None else weights
        chosen = known > 0
        if not chosen.any():
            return None
        plain, known = plain[chosen], known[chosen]
        order = np.argsort(plain, kind="stable")
        return Sample(plain[order], known[order] / known.sum(), max(independent, 1))

    def mean(self) -> float:
        return float(np.dot(self.values, self.weights))

    def deviation(self) -> float:
        return float(np.dot(np.square(self.values - self.mean()), self.weights) ** 0.5)

    def quantile(self, share: float) -> float:
        """Linear between neighbours; with equal weights numpy's default."""
        below = np.cumsum(self.weights) - self.weights
        last = below[-1]
        return float(np.interp(share, below / last, self.values)) if last > 0 else float(self.values[0])

    def at_most(self, grid: Floats) -> Floats:
        """Share of the weight at or below each value of the grid."""
        total = np.concatenate([[0.0], np.cumsum(self.weights)])
        return np.asarray(total[np.searchsorted(self.values, grid, side="right")])


def error_scale(one: Sample, other: Sample) -> float:
    """√(1/n + 1/m) with the independent observations of both."""
    return float((1 / one.independent + 1 / other.independent) ** 0.5)


def ks_distance(one: Sample, other: Sample) -> tuple[float, float]:
    """The largest gap between the distribution functions, and 1.36·√((n+m)/nm): chance exceeds that in 5% of cases (Smirnov)."""
    grid = np.union1d(one.values, other.values)
    distance = float(np.abs(one.at_most(grid) - other.at_most(grid)).max())
    return distance, KS_5_PERCENT * error_scale(one, other)


def wasserstein(one: Sample, other: Sample) -> tuple[float, float]:
    """Wasserstein-1 over the mean of the first (1 where that is 0), and what chance may make of it.

    The latter is 2·√(1/n + 1/m)·∫√(F(1−F)) over the mean: the mean distance of two samples of one law is 0.8 of that root and
    integral (del Barrio, Giné & Matrán 1999), and twice the root is rarely exceeded.
    """
    grid = np.union1d(one.values, other.values)
    steps = np.diff(grid)
    first, second = one.at_most(grid)[:-1], other.at_most(grid)[:-1]
    mean = abs(one.mean())
    if mean <= 1e-12 * float(np.dot(np.abs(one.values), one.weights)):  # values that cancel out, but for rounding
        mean = 1.0
    spread = float(np.dot(np.sqrt(np.clip(first * (1 - first), 0, None)), steps))
    return float(np.dot(np.abs(first - second), steps)) / mean, 2 * error_scale(one, other) * spread / mean
