"""Whether, when and by how much a nightly figure changed: a self-starting CUSUM over nights. It does not know runs or metrics.

Each night's logarithm is compared with all nights since the last change: under no change, T = √(n/(n+1))·(x − mean)/sd follows
Student's t with n − 1 degrees of freedom, whatever mean and spread are, and is turned into a normal score (Hawkins 1987, "Self-
starting CUSUM charts for location and scale", The Statistician 36). Scores are cut at ±`CUT`, so that one odd night alone is no
change, and two sums, of scores above `SLACK` and below −`SLACK`, alarm above a threshold. The change began after the night on
which the alarming sum was last 0. A night that is odd by itself is an outlier. Where many series are watched side by side, an
alarm is "sure" only if the two levels differ beyond `SURE` shared among all of them (Bonferroni), else "likely"; more nights may
settle it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Array = np.ndarray[tuple[int], np.dtype[np.float64]]
Grade = Literal["sure", "likely"]

SLACK = 1.0  # half of a change of two standard deviations, the smallest that is to be found fast
THRESHOLD = 3.5  # some 0.02 false alarms in 60 unchanged nights of one series
CUT = 3.5
LEARN = 6  # nights before the first judgement, and after a change that was found
OUTLIER = 3.5
SURE = 1e-3
FLOOR = 0.005
"""The least standard deviation of a night's logarithm that is believed: a simulated pool repeats itself exactly, and half a per
cent is of no interest to anybody."""


@dataclass(frozen=True, slots=True)
class Change:
    """A level that changed: the first night of the new one and the night of the alarm (indices into the series), the ratio of the
    new level to the old one with its 95% limits (Welch's t on logarithms; None where one side is a single night).

    `p`: of the two levels' difference (pooled t; small by choice of the night, hence `SURE`). `grade`: see above.
    """

    night: int
    found: int
    ratio: float
    low: float | None
    high: float | None
    p: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class Course:
    """A series judged: changes in order, odd single nights, and the standard deviation between nights (of logarithms; None where
    there are fewer than `LEARN` since the last change)."""

    changes: tuple[Change, ...]
    outliers: tuple[int, ...]
    spread: float | None


def judge(values: Sequence[float | None], series: int = 1, floor: float = FLOOR) -> Course:
    """The changes in a night's figure (all above 0; None = no value that night). `series`: how many are judged beside it.

    `floor`: the least spread of logarithms to believe, such as what A/A nights show. ValueError for a value that is not above 0.
    """
    for i, value in enumerate(values):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"values[{i}]: {value!r}; allowed: finite and above 0, or None")
    nights = [i for i, value in enumerate(values) if value is not None]
    logs = np.array([math.log(v) for v in values if v is not None])
    found: list[tuple[int, int]] = []  # (first place of a new level, place of the alarm)
    outliers: list[int] = []
    began = 0  # the first night of the present level, as a place in `logs`
    at = 1
    sums, zeros = [0.0, 0.0], [began, began]
    while at < len(logs):
        level = logs[began:at]
        score = _score(logs[at], level, floor) if len(level) >= LEARN else 0.0
        if abs(score) >= OUTLIER:
            outliers.append(nights[at])
        score = max(-CUT, min(CUT, score))
        for side, sign in enumerate((1, -1)):
            sums[side] = max(0.0, sums[side] + sign * score - SLACK)
            if sums[side] == 0.0:
                zeros[side] = at + 1
        side = 0 if sums[0] >= sums[1] else 1
        if sums[side] > THRESHOLD:
            first = zeros[side]
            found.append((first, at))
            outliers = [night for night in outliers if not nights[first] <= night <= nights[at]]
            began, sums, zeros = first, [0.0, 0.0], [at + 1, at + 1]
        at += 1
    return Course(_settled(found, logs, nights, series), tuple(outliers), _spread(logs[began:]))


def _score(value: float, level: Array, floor: float) -> float:
    from scipy import special

    n = len(level)
    spread = max(float(level.std(ddof=1)), floor)
    t = math.sqrt(n / (n + 1)) * (value - float(level.mean())) / spread
    return float(special.ndtri(special.stdtr(n - 1, -abs(t)))) * (-1 if t > 0 else 1)


def _settled(found: Sequence[tuple[int, int]], logs: Array, nights: Sequence[int], series: int) -> tuple[Change, ...]:
    """The changes, their sizes from all nights of both levels, not only those up to the alarm."""
    bounds = [0, *(first for first, _ in found), len(logs)]
    changes = []
    for i, (first, alarm) in enumerate(found):
        before, after = logs[bounds[i] : bounds[i + 1]], logs[bounds[i + 1] : bounds[i + 2]]
        p = _p(before, after)
        grade: Grade = "sure" if p * series <= SURE else "likely"
        changes.append(Change(nights[first], nights[alarm], *_ratio(before, after), p, grade))
    return tuple(changes)


def _p(before: Array, after: Array) -> float:
    """Two-sided p of the pooled t test; 1 where there is nothing to pool."""
    from scipy import special

    freedom = len(before) + len(after) - 2
    if freedom < 1:
        return 1.0
    squares = float(((before - before.mean()) ** 2).sum() + ((after - after.mean()) ** 2).sum())
    error = math.sqrt(squares / freedom * (1 / len(before) + 1 / len(after)))
    difference = abs(float(after.mean() - before.mean()))
    return 0.0 if error == 0 else 2 * float(special.stdtr(freedom, -difference / error))


def _ratio(before: Array, after: Array) -> tuple[float, float | None, float | None]:
    """(ratio of the geometric means, its 95% limits by Welch's t)."""
    from scipy import special

    difference = float(after.mean() - before.mean())
    if min(len(before), len(after)) < 2:
        return math.exp(difference), None, None
    shares = [float(side.var(ddof=1)) / len(side) for side in (before, after)]
    error = math.sqrt(sum(shares))
    if error == 0:
        return math.exp(difference), math.exp(difference), math.exp(difference)
    freedom = error**4 / sum(share**2 / (len(side) - 1) for share, side in zip(shares, (before, after), strict=True))
    reach = float(special.stdtrit(freedom, 0.975)) * error
    return math.exp(difference), math.exp(difference - reach), math.exp(difference + reach)


def _spread(logs: Array) -> float | None:
    return float(logs.std(ddof=1)) if len(logs) >= LEARN else None
