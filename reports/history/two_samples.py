"""Two samples without pairs: Welch's t and Fisher's exact test. It knows numbers, not runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean difference, its 95% limits and its two-sided p; limits and p are None where the data cannot give them."""

    difference: float
    low: float | None
    high: float | None
    p: float | None


def welch(values: Sequence[float], reference: Sequence[float]) -> Difference:
    """`values` − `reference`, spreads unequal (Welch 1947); ValueError when a side is empty. No spread: p is 1 or 0."""
    from scipy import special

    if not values or not reference:
        raise ValueError(f"welch: {len(values)} and {len(reference)} values; allowed: at least one on each side")
    means = [math.fsum(side) / len(side) for side in (values, reference)]
    difference = means[0] - means[1]
    if min(len(values), len(reference)) < 2:
        return Difference(difference, None, None, None)
    shares = [
        math.fsum((v - mean) ** 2 for v in side) / (len(side) - 1) / len(side)
        for side, mean in zip((values, reference), means, strict=True)
    ]
    error = math.sqrt(sum(shares))
    if error == 0:
        return Difference(difference, difference, difference, 1.0 if difference == 0 else 0.0)
    parts = sum(share**2 / (len(side) - 1) for share, side in zip(shares, (values, reference), strict=True))
    freedom = sum(shares) ** 2 / parts
    reach = float(special.stdtrit(freedom, 0.975)) * error
    p = 2 * float(special.stdtr(freedom, -abs(difference) / error))
    return Difference(difference, difference - reach, difference + reach, p)


def fisher_exact(one: int, of_one: int, other: int, of_other: int) -> float:
    """Two-sided p that `one` of `of_one` and `other` of `of_other` share one chance: all tables no likelier than this one
    (Fisher 1922). ValueError for counts that cannot be."""
    if not (0 <= one <= of_one and 0 <= other <= of_other):
        raise ValueError(f"fisher_exact: {one} of {of_one} and {other} of {of_other}; allowed: 0 <= count <= of")
    total, found = of_one + of_other, one + other
    ways = math.comb(total, found)
    chances = {
        k: math.comb(of_one, k) * math.comb(of_other, found - k) / ways
        for k in range(max(0, found - of_other), min(of_one, found) + 1)
    }
    return min(1.0, math.fsum(chance for chance in chances.values() if chance <= chances[one] * (1 + 1e-7)))
