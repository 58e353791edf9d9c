"""Each arm's figures over the nights of one history, judged: what got worse, since when, by how much. It draws nothing."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reports.history.changes import FLOOR, Change, judge
from reports.history.metrics import Metric
from reports.history.nights import ArmKey, Figure, Night

BEYOND = 10.0
"""A censored night ("> timeout") counts as this many times the largest value seen: worse than any, and cut like any odd night."""


@dataclass(frozen=True)
class Trend:
    """One metric of one arm: a figure a night (None where the arm was not run), its changes, odd nights and noise."""

    arm: ArmKey
    metric: Metric
    figures: tuple[Figure | None, ...]
    changes: tuple[Change, ...]
    outliers: tuple[int, ...]
    spread: float | None

    @property
    def last(self) -> Change | None:
        return self.changes[-1] if self.changes else None


@dataclass(frozen=True, slots=True)
class Regression:
    """A change for the worse. `size`, `low`, `high` on the metric's scale (+0.08 = 8%, or 8 points)."""

    arm: ArmKey
    metric: Metric
    since: int
    found: int
    size: float
    low: float | None
    high: float | None
    sure: bool
    runs: tuple[Path, Path]  # the last night before, and the first night of the new level


def trends(nights: Sequence[Night], floor: float = FLOOR) -> list[Trend]:
    """A trend for each metric of each arm that any night has; `floor`: the least night-to-night spread to believe."""
    keys: dict[tuple[ArmKey, Metric], None] = {}
    for night in nights:
        keys.update(dict.fromkeys(night.figures))
    found = []
    for arm, metric in keys:
        figures = tuple(night.figures.get((arm, metric)) for night in nights)
        told = judge(_judged(figures, metric), series=len(keys), floor=floor)
        found.append(Trend(arm, metric, figures, told.changes, told.outliers, told.spread))
    return sorted(found, key=lambda t: (t.arm, t.metric.phase, t.metric.name))


def regressions(nights: Sequence[Night], found: Sequence[Trend], since: int = 0) -> list[Regression]:
    """The changes for the worse found in night `since` or later that no later change undid: sure ones first."""
    worse = []
    for trend in found:
        change = trend.last
        if change is None or change.found < since:
            continue
        size = trend.metric.size(change.ratio)
        if trend.metric.is_worse(size):
            limits = sorted(trend.metric.size(x) for x in (change.low, change.high) if x is not None)
            low, high = (limits[0], limits[-1]) if limits else (None, None)
            before = max((i for i in range(change.night) if trend.figures[i] is not None), default=change.night)
            runs = nights[before].run, nights[change.night].run
            worse.append(
                Regression(trend.arm, trend.metric, change.night, change.found, size, low, high, change.grade == "sure", runs)
            )
    return sorted(worse, key=lambda r: (not r.sure, -abs(r.size), r.arm, r.metric.name))


def _judged(figures: Sequence[Figure | None], metric: Metric) -> list[float | None]:
    seen = [f.mean for f in figures if f is not None and f.mean is not None]
    beyond = metric.lifted(max(seen) * BEYOND) if seen else None
    values: list[float | None] = []
    for figure in figures:
        if figure is None:
            values.append(None)
        elif figure.censored:
            values.append(beyond)
        else:
            values.append(None if figure.mean is None or not math.isfinite(figure.mean) else metric.lifted(figure.mean))
    return values


def by_arm(found: Sequence[Trend]) -> dict[ArmKey, list[Trend]]:
    arms: dict[ArmKey, list[Trend]] = defaultdict(list)
    for trend in found:
        arms[trend.arm].append(trend)
    return dict(arms)
