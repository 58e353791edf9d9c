"""Quantiles and histograms of many numbers in little memory. It does not know what they measure."""

from typing import Any

import numpy as np
import numpy.typing as npt

PERCENTILES = (1, 25, 50, 75, 90, 95, 99)
_BINS = 48
_PIECE = 1 << 20


class Spread:
    """A sorted copy of the values that are known (not NaN), in their own type: 4 bytes a value for 32-bit integers."""

    def __init__(self, values: npt.NDArray[Any]) -> None:
        known = values[~np.isnan(values)] if values.dtype.kind == "f" else values.copy()
        known.sort()
        self.ordered = known

    def __len__(self) -> int:
        return len(self.ordered)

    def quantile(self, share: float) -> float:
        """Linear between the neighbours, as numpy's default."""
        place = share * (len(self.ordered) - 1)
        below = int(place)
        low, high = float(self.ordered[below]), float(self.ordered[min(below + 1, len(self.ordered) - 1)])
        return low + (high - low) * (place - below)

    def summary(self) -> dict[str, float] | None:
        """mean, cv (population), p1 … p99, max and n; None without values."""
        n = len(self.ordered)
        if not n:
            return None
        mean = sum(float(p.sum(dtype=np.float64)) for p in self._pieces()) / n
        square = sum(float(np.square(p.astype(np.float64) - mean).sum()) for p in self._pieces()) / n
        made = {"mean": mean, "cv": square**0.5 / mean if mean else 0.0}
        made |= {f"p{q}": self.quantile(q / 100) for q in PERCENTILES}
        return {**made, "max": float(self.ordered[-1]), "n": n}

    def histogram(self, least: float) -> dict[str, list[float]] | None:
        """Counts between logarithmic edges: `low` and `high` bound each bin, a first one from 0 holds all below `least`.

        Edges of integers are whole, so that no bin is empty because no integer lies in it. None without values.
        """
        if not len(self.ordered):
            return None
        edges = self._edges(least)
        within = np.searchsorted(self.ordered, edges, side="left")
        counts = np.diff(np.concatenate([[0], within]))
        low, high = [0.0, *edges[:-1].tolist()], edges.tolist()
        kept = slice(None) if counts[0] else slice(1, None)
        return {"low": low[kept], "high": high[kept], "count": counts.tolist()[kept]}

    def _edges(self, least: float) -> npt.NDArray[np.float64]:
        """Ascending from `least` to just above the maximum."""
        whole = self.ordered.dtype.kind != "f"
        most = float(self.ordered[-1])
        top = max(most + 1 if whole else np.nextafter(most, np.inf), least * 2)
        begin = max(least, float(self.ordered[np.searchsorted(self.ordered, least)])) if most >= least else least
        edges = np.geomspace(begin, top, _BINS + 1)
        edges[0], edges[-1] = begin, top
        return np.unique(np.round(edges)) if whole else edges

    def _pieces(self) -> list[npt.NDArray[Any]]:
        return [self.ordered[i : i + _PIECE] for i in range(0, len(self.ordered), _PIECE)]


def spread(values: npt.ArrayLike) -> dict[str, float] | None:
    """`Spread.summary` of the values: mean, cv, p1 … p99, max, n; NaN = unknown, left out."""
    return Spread(np.asarray(values)).summary()
