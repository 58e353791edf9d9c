"""Made-up courses of a cell, second by second, with a known verdict. It does not know rows or files."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reports.course import Course
from reports.verdict import Stretches

PHASES = (("warmup", 10.0), ("steady", 40.0), ("trigger", 10.0), ("recovery", 90.0))
TRIGGER_S, END_S, HORIZON_S, DRAIN_S = 50, 60, 150, 20

Seconds = np.ndarray[Any, np.dtype[np.float64]]


@dataclass
class Series:
    """What one second's cohort meets: `success` is the chance to meet the SLO, `retries` the mean failures of the others.

    `waiting`, `running` are the pool's sums; after the horizon they fall to nothing in `drained_after_s` seconds.
    """

    success: Seconds
    retries: Seconds
    ttft_s: Seconds
    hit: Seconds
    waiting: Seconds
    running: Seconds
    queue_age_s: Seconds
    drained_after_s: float = 10.0

    def degrade(self, start: int, end: int) -> None:
        """Overload from second `start` to before `end`: few answers in time, retries, a long queue, a colder cache."""
        self.success[start:end] = 0.1
        self.retries[start:end] = 1.0
        self.ttft_s[start:end] = 1.2
        self.hit[start:end] = 0.1
        self.waiting[start:end] = 200.0
        self.running[start:end] = 64.0
        self.queue_age_s[start:end] = 8.0


def series(kind: str, seed: int) -> Series:
    """The course called `kind`: its true verdict and recovery second stand in `KINDS`."""
    noise = np.random.default_rng([seed, 3])

    def flat(level: float, spread: float) -> Seconds:
        return np.asarray(level + spread * noise.uniform(-1, 1, HORIZON_S))

    course = Series(
        success=flat(0.99, 0.01),
        retries=flat(0.3, 0.0),
        ttft_s=flat(0.3, 0.05),
        hit=flat(0.5, 0.03),
        waiting=flat(3.0, 3.0),
        running=flat(20.0, 4.0),
        queue_age_s=flat(0.1, 0.1),
    )
    KINDS[kind][2](course)
    return course


def _healthy(course: Series) -> None:
    """Nothing ever goes wrong."""


def _recovered(course: Series) -> None:
    course.degrade(TRIGGER_S, END_S + 15)


def _dead(course: Series) -> None:
    course.degrade(TRIGGER_S, HORIZON_S)
    course.waiting[TRIGGER_S:] = np.linspace(100, 900, HORIZON_S - TRIGGER_S)


def _slow(course: Series) -> None:
    """Still overloaded at the end, but the queue shrinks and would be gone within another horizon."""
    course.degrade(TRIGGER_S, HORIZON_S)
    course.waiting[END_S:] = np.linspace(900, 300, HORIZON_S - END_S)


def _latent(course: Series) -> None:
    """Goodput comes back after 15 s, the cache does not."""
    course.degrade(TRIGGER_S, END_S + 15)
    course.hit[TRIGGER_S:] = 0.09


def _oscillating(course: Series) -> None:
    """15 good seconds, 5 bad ones, for ever."""
    course.degrade(TRIGGER_S, END_S)
    for start in range(END_S, HORIZON_S, 20):
        course.degrade(start, start + 5)


def _deadlock(course: Series) -> None:
    """Nothing is answered any more, and the work never leaves."""
    course.degrade(TRIGGER_S, HORIZON_S)
    course.success[TRIGGER_S:] = 0.0
    course.drained_after_s = float("inf")


def _dim(course: Series) -> None:
    """No queue and no retry storm, yet one in six misses the SLO, for ever."""
    course.degrade(TRIGGER_S, END_S)
    course.success[END_S:] = 0.83


def _relapsing(course: Series) -> None:
    """35 good seconds after the trigger, then down again."""
    course.degrade(TRIGGER_S, END_S)
    course.degrade(END_S + 35, HORIZON_S)


def _returning_late(course: Series) -> None:
    """Good again, but only for the last 20 s."""
    course.degrade(TRIGGER_S, HORIZON_S - 20)


def _unstable(course: Series) -> None:
    """Too much load from the start."""
    course.success[:] = 0.6


KINDS = {
    "healthy": ("recovered", 0.0, _healthy),
    "recovered": ("recovered", 15.0, _recovered),
    "dead": ("metastable", None, _dead),
    "slow": ("slow", None, _slow),
    "latent": ("latent", 15.0, _latent),
    "oscillating": ("metastable", None, _oscillating),
    "dim": ("metastable", None, _dim),
    "relapsing": ("metastable", None, _relapsing),
    "returning late": ("slow", None, _returning_late),
    "deadlock": ("deadlock", None, _deadlock),
    "unstable": ("unstable", None, _unstable),
}


def stretches(kind: str, seed: int, load_rps: float = 12.0, k: float = 3.0) -> Stretches:
    """The course called `kind` drawn as one cell's seconds: Poisson arrivals, binomial successes, no rows and no files."""
    course, noise = series(kind, seed), np.random.default_rng([seed, 4])
    drain = np.clip(1 - np.arange(DRAIN_S) / course.drained_after_s, 0, 1)
    rate = np.full(HORIZON_S, load_rps)
    rate[TRIGGER_S:END_S] *= k
    scheduled = noise.poisson(rate)
    succeeded = noise.binomial(scheduled, np.clip(course.success, 0, 1))
    missed = scheduled - succeeded
    retries = np.array([noise.poisson(course.retries[t], missed[t]).sum() for t in range(HORIZON_S)])

    def with_drain(values: Any, after: Seconds) -> Seconds:
        return np.concatenate((values.astype(np.float64), after))

    stuck = np.isinf(course.drained_after_s)
    none = np.zeros(DRAIN_S)
    whole = Course(
        start_s=0,
        scheduled=with_drain(scheduled, none),
        succeeded=with_drain(succeeded, none),
        undecided=np.zeros(HORIZON_S + DRAIN_S),
        cohort_attempts=with_drain(scheduled + missed + retries, none),
        computed_tokens=with_drain(1000.0 * (scheduled + missed + retries), none),
        useful_tokens=with_drain(1000.0 * scheduled, none),
        in_flight=with_drain(course.waiting + course.running, (course.waiting + course.running)[-1] * drain),
        waiting=with_drain(course.waiting, course.waiting[-1] * drain),
        queue_age_s=with_drain(course.queue_age_s, course.queue_age_s[-1] * drain),
        kv_used=with_drain(course.waiting / 1000, course.waiting[-1] / 1000 * drain),
        hit_rate=with_drain(course.hit, none + course.hit[-1]),
        engine_ended=with_drain(scheduled, none if stuck else none + 5),
    )
    return Stretches(whole.cut(10, TRIGGER_S), whole.cut(END_S, HORIZON_S), whole.cut(HORIZON_S, HORIZON_S + DRAIN_S))
