"""A cell's seconds as arrays, cut into stretches and smoothed into signals. It judges nothing."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
WINDOW_S = 5  # signals look this far ahead, so that a bad second spoils the seconds before it and none after


@dataclass(frozen=True)
class Course:
    """One value a second, from `start_s` on (columns of table `seconds`; NaN where nothing was sampled)."""

    start_s: int
    scheduled: Array
    succeeded: Array
    undecided: Array
    cohort_attempts: Array
    computed_tokens: Array
    useful_tokens: Array
    in_flight: Array
    waiting: Array
    queue_age_s: Array
    kv_used: Array
    hit_rate: Array
    engine_ended: Array

    def __len__(self) -> int:
        return len(self.scheduled)

    @property
    def decided(self) -> Array:
        """Roots due of which it is known whether they met the SLO."""
        return self.scheduled - self.undecided

    def cut(self, start_s: float, end_s: float) -> "Course":
        """The seconds from `start_s` to before `end_s`."""
        first, last = (round(s) - self.start_s for s in (start_s, end_s))
        return Course(self.start_s + first, *(getattr(self, name)[first:last] for name in COLUMNS))


COLUMNS = tuple(f.name for f in fields(Course) if f.name != "start_s")


@dataclass(frozen=True)
class Signals:
    """A stretch as it looks over the next `WINDOW_S` seconds; NaN says nothing was seen."""

    success: Array
    attempts_per_root: Array
    queue_age_s: Array
    hit_rate: Array
    work_waste: Array
    waiting: Array


def signals(course: Course) -> Signals:
    """The signals of a stretch; its last seconds repeat the last full window."""
    roots = _ahead(course.scheduled)
    return Signals(
        success=_ratio(_ahead(course.succeeded), _ahead(course.decided)),
        attempts_per_root=_ratio(_ahead(course.cohort_attempts), roots),
        queue_age_s=_mean_ahead(course.queue_age_s),
        hit_rate=_mean_ahead(course.hit_rate),
        work_waste=1 - _ratio(_ahead(course.useful_tokens), _ahead(course.computed_tokens)),
        waiting=_mean_ahead(course.waiting),
    )


def _ahead(values: Array) -> Array:
    """Sums over the next `WINDOW_S` values."""
    width = min(WINDOW_S, len(values))
    total = np.concatenate(([0.0], np.cumsum(values)))
    full = total[width:] - total[:-width] if width else total[:0]
    return np.concatenate((full, np.full(len(values) - len(full), full[-1] if len(full) else np.nan)))


def _mean_ahead(values: Array) -> Array:
    seen = ~np.isnan(values)
    return _ratio(_ahead(np.where(seen, values, 0.0)), _ahead(seen.astype(np.float64)))


def _ratio(part: Array, whole: Array) -> Array:
    share: Array = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return share
