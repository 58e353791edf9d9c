"""Each arm's figures over the nights of one history, judged: what changed, since when, by how much. It draws nothing."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from reports.history.changes import FLOOR, Change, judge
from reports.history.metrics import Metric
from reports.history.nights import ArmKey, Figure, Night
from reports.history.noise import Noise, noise_of

BEYOND = 10.0
"""A censored night ("> timeout") counts as this many times the largest value seen: worse than any, and cut like any odd night."""
BAND = 2.0  # standard deviations that the noise band reaches to both sides of a level
UNDONE = 0.5  # a change is undone once this share of it is gone again (on the logarithmic scale)


@dataclass(frozen=True, slots=True)
class Level:
    """Nights `first` to `last` without a change between them: the geometric mean of the nights that have a value, and the noise
    band around it, in the metric's own unit (None: no value). `censored` nights are in none of the three."""

    first: int
    last: int
    value: float | None
    low: float | None
    high: float | None
    censored: int


@dataclass(frozen=True)
class Trend:
    """One metric of one arm: a figure a night (None where the arm was not run), its changes, levels and odd nights.

    There is one level more than there are changes. Void nights have a figure and are not judged.
    """

    arm: ArmKey
    metric: Metric
    figures: tuple[Figure | None, ...]
    changes: tuple[Change, ...]
    outliers: tuple[int, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """A change in words' reach. `before`: the last judged night of the old level; `since`: the first of the new one; `found`: the
    night of the alarm; `settled`: the night that made it sure, or None. `size`, `low`, `high` on the metric's scale (+0.08 = 8%,
    or 8 points), None where nights of either level are censored. `stands`: no later change undid it."""

    arm: ArmKey
    metric: Metric
    before: int
    since: int
    found: int
    settled: int | None
    size: float | None
    low: float | None
    high: float | None
    old: Level
    new: Level
    worse: bool
    stands: bool


@dataclass(frozen=True)
class History:
    """Nights that ask the same question, oldest first, and all that is told of them."""

    nights: tuple[Night, ...]
    trends: tuple[Trend, ...]
    shifts: tuple[Shift, ...]
    noise: Noise

    @property
    def judged(self) -> list[int]:
        return [i for i, night in enumerate(self.nights) if not night.void]

    def recent(self, since: int) -> int:
        """The first of the last `since` judged nights; one past the end where there is none."""
        return self.judged[-since:][0] if self.judged else len(self.nights)


def history_of(nights: Sequence[Night], floor: float = FLOOR) -> History:
    """One history judged; `floor`: the least night-to-night spread to believe, raised to what A/A nights show."""
    noise = noise_of(nights)
    found = trends(nights, noise, floor)
    return History(tuple(nights), tuple(found), tuple(shifts(found)), noise)


def trends(nights: Sequence[Night], noise: Noise, floor: float = FLOOR) -> list[Trend]:
    """A trend for each metric of each arm that any night has, in order of arm, phase and metric."""
    keys: dict[tuple[ArmKey, Metric], None] = {}
    for night in nights:
        keys.update(dict.fromkeys(night.figures))
    void = {i for i, night in enumerate(nights) if night.void}
    found = []
    for arm, metric in keys:
        figures = tuple(night.figures.get((arm, metric)) for night in nights)
        values = _judged([None if i in void else f for i, f in enumerate(figures)], metric)
        told = judge(values, series=len(keys), floor=noise.floor(metric, floor))
        censored = {i for i, f in enumerate(figures) if f is not None and f.censored}
        levels = _levels(values, censored, [c.night for c in told.changes], metric)
        found.append(Trend(arm, metric, figures, told.changes, told.outliers, levels))
    return sorted(found, key=lambda t: (t.arm, t.metric.phase != "steady", t.metric.name))


def shifts(found: Sequence[Trend]) -> list[Shift]:
    """Every change of every trend: for the worse first, sure ones first, the largest first."""
    told = []
    for trend in found:
        logs = [math.log(change.ratio) for change in trend.changes]
        for i, change in enumerate(trend.changes):
            old, new = trend.levels[i], trend.levels[i + 1]
            size = trend.metric.size(change.ratio)
            limits = sorted(trend.metric.size(x) for x in (change.low, change.high) if x is not None)
            low, high = (limits[0], limits[-1]) if limits else (None, None)
            known = not (old.censored or new.censored)
            gone = [sum(logs[i + 1 : j + 1]) / logs[i] <= -UNDONE for j in range(i + 1, len(logs))]
            told.append(
                Shift(
                    arm=trend.arm,
                    metric=trend.metric,
                    before=old.last,
                    since=change.night,
                    found=change.found,
                    settled=change.settled,
                    size=size if known else None,
                    low=low if known else None,
                    high=high if known else None,
                    old=old,
                    new=new,
                    worse=trend.metric.is_worse(size),
                    stands=not any(gone),
                )
            )
    return sorted(told, key=lambda s: (not s.worse, s.settled is None, -_weight(s), s.arm, s.metric.name))


def news(history: History, since: int) -> list[Shift]:
    """The standing changes that the last `since` judged nights found or made sure."""
    first = history.recent(since)
    return [s for s in history.shifts if s.stands and max(s.found, -1 if s.settled is None else s.settled) >= first]


def _weight(shift: Shift) -> float:
    return math.inf if shift.size is None else abs(shift.size)


def _levels(values: Sequence[float | None], censored: set[int], firsts: Sequence[int], metric: Metric) -> tuple[Level, ...]:
    judged = [i for i, value in enumerate(values) if value is not None]
    if not judged:
        return ()
    bounds = [judged[0], *firsts, len(values)]
    levels = []
    for first, end in pairwise(bounds):
        nights = [i for i in judged if first <= i < end]
        logs = [math.log(v) for i in nights if i not in censored and (v := values[i]) is not None]
        beyond = sum(i in censored for i in nights)
        if not logs:
            levels.append(Level(first, nights[-1], None, None, None, beyond))
            continue
        mean = math.fsum(logs) / len(logs)
        squares = math.fsum((x - mean) ** 2 for x in logs)
        reach = BAND * math.sqrt(squares / (len(logs) - 1)) if len(logs) > 1 else 0.0
        value, low, high = (metric.lowered(math.exp(x)) for x in (mean, mean - reach, mean + reach))
        levels.append(Level(first, nights[-1], value, low, high, beyond))
    return tuple(levels)


def _judged(figures: Sequence[Figure | None], metric: Metric) -> list[float | None]:
    seen = [f.mean for f in figures if f is not None and f.mean is not None]
    beyond = metric.lifted(max(seen) * BEYOND) if seen else None
    values: list[float | None] = []
    for figure in figures:
        if figure is None or (figure.mean is None and not figure.censored):
            values.append(None)
        else:
            values.append(beyond if figure.mean is None else metric.lifted(figure.mean))
    return values


def by_arm(found: Sequence[Trend]) -> dict[ArmKey, list[Trend]]:
    arms: dict[ArmKey, list[Trend]] = defaultdict(list)
    for trend in found:
        arms[trend.arm].append(trend)
    return dict(arms)
