"""Intervals and tests over seeds: t, paired t with Holm, Wilson, Kaplan–Meier. It knows numbers, not routers or tables.

It draws on scipy.special alone: importing scipy.stats costs 2 s of CPU. The tests hold it against scipy.stats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence limits; a limit that the data cannot give is None."""

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Paired:
    """A mean difference over pairs, its interval and the two-sided p of the paired t test (None under two pairs)."""

    pairs: int
    difference: float
    low: float | None
    high: float | None
    p: float | None


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean and Student's t interval over seeds; one value has no limits, none has no mean either."""
    from scipy import special

    n = len(values)
    if n == 0:
        return Interval(None, None, None)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, None)
    error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    reach = float(special.stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return Interval(mean, mean - reach, mean + reach)


def paired_t(values: Sequence[float], reference: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """`values` − `reference`, pair by pair (same seed, same place); raises ValueError when the lengths differ or are 0.

    Equal differences have no spread: p is 1 when they are all 0, else 0.
    """
    from scipy import special

    if len(values) != len(reference) or not values:
        raise ValueError(f"paired_t: {len(values)} and {len(reference)} values; allowed: equally many, at least one")
    differences = [a - b for a, b in zip(values, reference, strict=True)]
    pairs, interval = len(differences), t_interval(differences, confidence)
    mean = math.fsum(differences) / pairs
    if interval.low is None or interval.high is None:
        return Paired(pairs, mean, None, None, None)
    error = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (pairs - 1) / pairs)
    if error == 0:
        return Paired(pairs, mean, mean, mean, 1.0 if mean == 0 else 0.0)
    p = 2 * float(special.stdtr(pairs - 1, -abs(mean) / error))
    return Paired(pairs, mean, interval.low, interval.high, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Holm 1979): max over j ≤ i of min(1, (m − j) p_(j))."""
    m = len(p_values)
    adjusted = [0.0] * m
    largest = 0.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """A share and its Wilson score interval (Wilson 1927); raises ValueError unless 0 ≤ successes ≤ n and n > 0.

    `successes` need not be whole: where each of the n is itself a mean over repeats.
    """
    from scipy import special

    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"wilson: {successes} of {n}; allowed: 0 <= successes <= n, n > 0")
    z, share = float(special.ndtri(0.5 + confidence / 2)), successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach))


def kaplan_meier_median(observed: Sequence[float], censored: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Median time of an event and its limits, where `censored` times saw no event (Kaplan and Meier 1958).

    The median is the first time at which survival is ≤ 1/2; the limits invert the log-log interval of the survival curve with
    Greenwood's variance (Brookmeyer and Crowley 1982). None means: later than all that was observed.
    """
    from scipy import special

    z = float(special.ndtri(0.5 + confidence / 2))
    median: list[float | None] = [None, None, None]
    survival, variance = 1.0, 0.0
    for time in sorted(set(observed)):
        events = sum(t == time for t in observed)
        at_risk = sum(t >= time for t in (*observed, *censored))
        survival *= 1 - events / at_risk
        variance += events / (at_risk * (at_risk - events)) if at_risk > events else math.inf
        for i, curve in enumerate((survival, *_log_log_limits(survival, variance, z))):
            if median[i] is None and curve <= 0.5:
                median[i] = time
    return Interval(*median)


def _log_log_limits(survival: float, variance: float, z: float) -> tuple[float, float]:
    """Limits of a survival share; undefined (NaN) where it is 0."""
    if survival == 0:
        return math.nan, math.nan
    reach = z * math.sqrt(variance) / abs(math.log(survival))
    return survival ** math.exp(reach), survival ** math.exp(-reach)
