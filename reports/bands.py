"""What an arm looks like while nothing disturbs it: a band for each signal. It does not know triggers or verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from reports.course import Array, Course, Signals, signals

SPREADS = 6.0  # a band is at least mean ± this many standard deviations of the 5 s windows, and holds all that was seen


@dataclass(frozen=True)
class Band:
    """The values of a signal in calm seconds: their mean, and the limits beyond which they are news."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Bands:
    """A band a signal, and the load (roots due a second) with its spread. `success` is the calm share over all roots."""

    success: Band
    attempts_per_root: Band
    queue_age_s: Band
    hit_rate: Band
    work_waste: Band
    waiting: Band
    load_rps: float
    load_spread_rps: float


@dataclass(frozen=True)
class Slack:
    """How far a signal may always stray: below this a difference is of no interest to anybody."""

    success: float = 0.02
    attempts_per_root: float = 0.05
    queue_age_s: float = 0.1
    hit_rate: float = 0.05
    work_waste: float = 0.05
    waiting: float = 4.0


def bands(calm: Sequence[Course], slack: Slack = Slack()) -> Bands:
    """The bands of the calm stretches of one arm over its seeds; raises ValueError when they hold no second."""
    calm = [course for course in calm if len(course)]
    if not calm:
        raise ValueError("bands: no calm second; allowed: at least one steady or placebo stretch")
    seen = [signals(course) for course in calm]
    scheduled = np.concatenate([course.scheduled for course in calm])
    found = {f.name: _band(seen, f.name, getattr(slack, f.name)) for f in fields(Signals)}
    share = float(sum(course.succeeded.sum() for course in calm) / max(1.0, sum(course.decided.sum() for course in calm)))
    found["success"] = Band(share, found["success"].low, found["success"].high)
    return Bands(**found, load_rps=float(scheduled.mean()), load_spread_rps=float(scheduled.std()))


def in_bands(course: Course, calm: Bands) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """For each second: SLO success, attempts per root and queue age are as in calm seconds (unseen counts as calm)."""
    now = signals(course)
    bad = (
        (now.success < calm.success.low)
        | (now.attempts_per_root > calm.attempts_per_root.high)
        | (now.queue_age_s > calm.queue_age_s.high)
    )
    return np.asarray(~bad)


def _band(seen: Sequence[Signals], name: str, slack: float) -> Band:
    values: Array = np.concatenate([getattr(s, name) for s in seen])
    values = values[~np.isnan(values)]
    if not len(values):
        return Band(np.nan, -np.inf, np.inf)  # never seen: nothing can be news
    mean, reach = float(values.mean()), max(SPREADS * float(values.std()), slack)
    return Band(mean, min(mean - reach, float(values.min())), max(mean + reach, float(values.max())))
