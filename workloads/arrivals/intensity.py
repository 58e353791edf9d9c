"""A piecewise-linear factor of the rate over time, its integral Λ and Λ's exact inverse. It does not know what it modulates."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MOST_PIECES = 1 << 22
_PRODUCT_ERROR = 1e-7  # of Λ, as a share of the piece's own integral


@dataclass(frozen=True, slots=True, eq=False)
class Intensity:
    """A factor ≥ 0 from `begins_s[0]` on: on piece i it is `values[i] + slopes[i]·(t − begins_s[i])`, until the next begin.

    Begins ascend, equal ones hide the earlier piece, and the last piece has slope 0 and never ends. So nothing here depends on
    where a run ends: a longer one repeats the same bits.
    """

    begins_s: Floats
    values: Floats
    slopes: Floats
    masses: Floats = field(init=False)  # Λ at each begin

    def __post_init__(self) -> None:
        lengths_s = np.diff(self.begins_s)
        steps = lengths_s * (self.values[:-1] + 0.5 * self.slopes[:-1] * lengths_s)
        object.__setattr__(self, "masses", np.concatenate([[0.0], np.cumsum(steps)]))

    def value(self, at_s: Floats) -> Floats:
        """The factor at times from the first begin on."""
        piece = self._piece(at_s)
        return np.asarray(self.values[piece] + self.slopes[piece] * (at_s - self.begins_s[piece]))

    def mass(self, at_s: Floats) -> Floats:
        """Λ(t): the integral of the factor from the first begin to t."""
        piece = self._piece(at_s)
        into_s = at_s - self.begins_s[piece]
        return np.asarray(self.masses[piece] + into_s * (self.values[piece] + 0.5 * self.slopes[piece] * into_s))

    def time(self, mass: Floats) -> Floats:
        """Λ⁻¹: when the integral reaches `mass`, which must lie below Λ(∞); stretches of factor 0 are skipped."""
        piece = np.searchsorted(self.masses, mass, side="right") - 1
        rest, value = mass - self.masses[piece], self.values[piece]
        # The root of slope/2·x² + value·x = rest that stays exact as slope → 0.
        root = value + np.sqrt(np.maximum(value**2 + 2 * self.slopes[piece] * rest, 0.0))
        into_s = np.divide(2 * rest, root, out=np.zeros_like(rest), where=root > 0)
        ends_s = np.append(self.begins_s[1:], np.inf)
        return np.asarray(np.minimum(self.begins_s[piece] + into_s, ends_s[piece]))

    def mean(self, begin_s: float, end_s: float) -> float:
        """The mean factor over [begin, end)."""
        low, high = self.mass(np.array([begin_s, end_s], dtype=np.float64)).tolist()
        return float((high - low) / (end_s - begin_s))

    def peak(self, end_s: float) -> float:
        """The largest factor of all pieces that begin before `end_s`."""
        ends = self.values + self.slopes * np.append(np.diff(self.begins_s), 0.0)
        return float(np.maximum(self.values, ends)[self.begins_s < end_s].max())

    def since(self, begin_s: float, held: float | None = None) -> "Intensity":
        """The same factor from `begin_s` on; before its own first begin it is `held`, or else its first value."""
        if begin_s < self.begins_s[0]:
            value, slope, rest = self.values[0] if held is None else held, 0.0, 0
        else:
            piece = int(self._piece(np.array([begin_s]))[0])
            slope, rest = self.slopes[piece], piece + 1
            value = self.values[piece] + slope * (begin_s - self.begins_s[piece])
        return Intensity(
            np.concatenate([[begin_s], self.begins_s[rest:]]),
            np.concatenate([[value], self.values[rest:]]),
            np.concatenate([[slope], self.slopes[rest:]]),
        )

    def times(self, other: "Intensity") -> "Intensity":
        """The product, on both factors' begins; both must begin at the same time.

        Where both slope it is quadratic: the piece is cut, and each cut gets the line of the same integral, so that Λ is exact at
        every begin and off by at most 1e-7 of the piece's own integral between them.
        """
        begins_s = np.union1d(self.begins_s, other.begins_s)
        lengths_s = np.append(np.diff(begins_s), 0.0)
        a, b = self._lines(begins_s), other._lines(begins_s)
        bend = np.abs(a[1] * b[1]) * lengths_s**2
        mass = (a[0] + a[1] * lengths_s / 2) * (b[0] + b[1] * lengths_s / 2)
        # A parabola of curvature q strays from the line of its integral by q·h³·√3/216 in Λ; here q = 2·slope·slope.
        strays = np.divide(bend * (3**0.5 / 108), mass * _PRODUCT_ERROR, out=np.zeros_like(bend), where=bend > 0)
        cuts = np.maximum(np.ceil(np.cbrt(strays)), 1).astype(np.int64)
        check_pieces(int(cuts.sum()))
        step = np.arange(int(cuts.sum())) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        begins_s = np.repeat(begins_s, cuts) + step * np.repeat(lengths_s / cuts, cuts)
        return _product(begins_s, self._lines(begins_s), other._lines(begins_s))

    def _piece(self, at_s: Floats) -> npt.NDArray[np.intp]:
        return np.maximum(np.searchsorted(self.begins_s, at_s, side="right") - 1, 0)

    def _lines(self, begins_s: Floats) -> tuple[Floats, Floats]:
        return self.value(begins_s), self.slopes[self._piece(begins_s)]


def steady(begin_s: float) -> Intensity:
    """No modulation: factor 1 from `begin_s` on."""
    return Intensity(np.array([begin_s]), np.ones(1), np.zeros(1))


def smooth(begins_s: Floats, means: Floats, slopes: Floats, after: float) -> Intensity:
    """Lines through the means of a smooth factor's n pieces, given n + 1 begins, then the value `after` for ever.

    The integral of every piece is kept; a line that would go below 0 is made as steep as it may be.
    """
    lengths_s = np.diff(begins_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        steepest = np.where(lengths_s > 0, 2 * means / lengths_s, 0.0)
    kept = np.clip(slopes, -steepest, steepest)
    values = np.maximum(means - kept * lengths_s / 2, 0.0)
    return Intensity(begins_s, np.append(values, after), np.append(kept, 0.0))


def check_pieces(count: float) -> None:
    """ValueError where a factor would need more pieces than memory should hold."""
    if count > MOST_PIECES:
        raise ValueError(
            f"arrival: a modulation has {count:.3g} pieces in this run; at most {MOST_PIECES}: make its times longer"
        )


def _product(begins_s: Floats, a: tuple[Floats, Floats], b: tuple[Floats, Floats]) -> Intensity:
    lengths_s = np.append(np.diff(begins_s), 0.0)
    a_mean, b_mean = a[0] + a[1] * lengths_s / 2, b[0] + b[1] * lengths_s / 2
    means = a_mean * b_mean + a[1] * b[1] * lengths_s**2 / 12
    slopes = a[1] * b_mean + b[1] * a_mean
    return smooth(begins_s, means[:-1], slopes[:-1], float(means[-1]))
