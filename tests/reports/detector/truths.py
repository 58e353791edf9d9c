"""Random courses of a cell with a known truth, hundreds a class: what a detector is asked. It judges nothing.

Each cell belongs to an arm of its own: a load of 20–60 rps, a calm success of 95.5–99.9%, calm queues, hit rates and retries.
Roots come as Poisson numbers a second (in half of the arms with a rate that itself scatters by 15%), successes are binomial,
queues Poisson. An arm is known by five undisturbed runs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reports.bands import Bands, bands
from reports.course import Array, Course
from reports.verdict import Stretches

STEADY_S, TRIGGER_S, OBSERVED_S, DRAIN_S = 60, 20, 300, 30
BACK_S = STEADY_S + TRIGGER_S
HORIZON_S = BACK_S + OBSERVED_S
CALM_RUNS = 5


@dataclass(frozen=True)
class Arm:
    """What an arm is like in calm seconds, and when it is down; shares, seconds, requests."""

    load_rps: float
    success: float
    retries: float
    waiting: float
    queue_age_s: float
    hit_rate: float
    waste: float
    bursty: float
    down_success: float
    down_retries: float
    down_waiting: float
    down_age_s: float
    down_hit_rate: float
    down_waste: float


@dataclass
class Levels:
    """The mean of each signal, second by second; `stuck`: what is in the engines never leaves them."""

    success: Array
    retries: Array
    waiting: Array
    queue_age_s: Array
    hit_rate: Array
    waste: Array
    stuck: bool = False


@dataclass(frozen=True)
class Cell:
    """One run: its arm, its seconds from the steady phase to the drain's end, and when it was truly back (None = never)."""

    arm: Arm
    whole: Course
    back_s: int | None

    def stretches(self, observed_s: int = OBSERVED_S) -> Stretches:
        """The run as it looks `observed_s` after the trigger's end; a run that is cut short has no drain yet."""
        drain = self.whole.cut(HORIZON_S, HORIZON_S + (DRAIN_S if observed_s == OBSERVED_S else 0))
        return Stretches(self.whole.cut(0, STEADY_S - 5), self.whole.cut(BACK_S, BACK_S + observed_s), drain)


def arm(rng: np.random.Generator) -> Arm:
    """An arm at random; when it is down one request in two or fewer is served in time, and most other signals tell too."""

    def perhaps(calm: float, down: float) -> float:
        return down if rng.random() < 0.7 else calm

    retries, waiting, age_s, hit_rate, waste = rng.uniform((0, 0.2, 0.01, 0.3, 0), (0.05, 10, 0.3, 0.85, 0.1)).tolist()
    return Arm(
        load_rps=rng.uniform(20, 60),
        success=rng.uniform(0.955, 0.999),
        retries=retries,
        waiting=waiting,
        queue_age_s=age_s,
        hit_rate=hit_rate,
        waste=waste,
        bursty=rng.choice([0.0, 0.15]),
        down_success=rng.uniform(0.0, 0.5),
        down_retries=perhaps(retries, rng.uniform(0.5, 3)),
        down_waiting=perhaps(waiting, rng.uniform(60, 600)),
        down_age_s=perhaps(age_s, rng.uniform(3, 20)),
        down_hit_rate=perhaps(hit_rate, hit_rate * rng.uniform(0, 0.5)),
        down_waste=perhaps(waste, rng.uniform(0.3, 0.9)),
    )


def calm_levels(of: Arm) -> Levels:
    """Nothing ever goes wrong."""

    def flat(level: float) -> Array:
        return np.full(HORIZON_S, level)

    return Levels(
        success=flat(of.success),
        retries=flat(of.retries),
        waiting=flat(of.waiting),
        queue_age_s=flat(of.queue_age_s),
        hit_rate=flat(of.hit_rate),
        waste=flat(of.waste),
    )


def go_down(levels: Levels, of: Arm, start: int, end: int) -> None:
    """The arm is down from second `start` to before `end`."""
    levels.success[start:end] = of.down_success
    levels.retries[start:end] = of.down_retries
    levels.waiting[start:end] = of.down_waiting
    levels.queue_age_s[start:end] = of.down_age_s
    levels.hit_rate[start:end] = of.down_hit_rate
    levels.waste[start:end] = of.down_waste


Truth = Callable[[Levels, Arm, np.random.Generator], int | None]
"""Bends calm levels into a course of its class; returns the second of recovery after the trigger's end, None = never."""


def placebo(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Nothing happens, but for a glitch of one or two seconds now and then, as in calm runs too."""
    return 0


def recovered(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    back_s = int(rng.integers(0, OBSERVED_S // 2))
    go_down(levels, of, STEADY_S, BACK_S + back_s)
    return back_s


def latent(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Served again, but the cache stays colder or work is wasted, for ever."""
    back_s = recovered(levels, of, rng)
    if rng.random() < 0.5:
        levels.hit_rate[STEADY_S:] = of.hit_rate - rng.uniform(0.15, 0.28)
    else:
        levels.waste[STEADY_S:] = of.waste + rng.uniform(0.15, 0.6)
    return back_s


def oscillating(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Up for 5–60 s and down for 5–40 s, for ever."""
    go_down(levels, of, STEADY_S, BACK_S)
    up_s, down_s = int(rng.integers(5, 61)), int(rng.integers(5, 41))
    for start in range(BACK_S + int(rng.integers(0, up_s)), HORIZON_S, up_s + down_s):
        go_down(levels, of, start, start + down_s)
    return None


def dead(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Down for ever: the queue stays, grows, or shrinks so slowly that it would take 1.5–4 times as long again."""
    go_down(levels, of, STEADY_S, HORIZON_S)
    end, seconds = rng.uniform(100, 900), np.arange(OBSERVED_S)
    if of.down_waiting > of.waiting:
        slope = rng.choice([0.0, rng.uniform(0, 3), -end / OBSERVED_S / rng.uniform(1.5, 4)])
        levels.waiting[BACK_S:] = np.maximum(of.waiting, end - slope * (OBSERVED_S - 1 - seconds))
    return None


def slow(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Down to the end, with a queue that would be gone in 20–80% of the time observed."""
    go_down(levels, of, STEADY_S, HORIZON_S)
    end = rng.uniform(100, 500)
    levels.waiting[BACK_S:] = end + end / (OBSERVED_S * rng.uniform(0.2, 0.8)) * np.arange(OBSERVED_S)[::-1]
    return None


def deadlock(levels: Levels, of: Arm, rng: np.random.Generator) -> int | None:
    """Nothing is served any more and nothing leaves, not even without load."""
    go_down(levels, of, STEADY_S, HORIZON_S)
    levels.success[STEADY_S:] = 0.0
    levels.waiting[STEADY_S:] = np.maximum(levels.waiting[STEADY_S:], 20.0)
    levels.stuck = True
    return None


TRUTHS: dict[str, tuple[Truth, frozenset[str]]] = {
    "placebo": (placebo, frozenset({"recovered"})),
    "recovered": (recovered, frozenset({"recovered"})),
    "latent": (latent, frozenset({"latent"})),
    "oscillating": (oscillating, frozenset({"metastable", "slow"})),
    "dead": (dead, frozenset({"metastable"})),
    "slow": (slow, frozenset({"slow"})),
    "deadlock": (deadlock, frozenset({"deadlock"})),
}
"""A class: its courses, and the verdicts that are right. An oscillating queue may be on its way down when time is up."""


def draw(name: str, number: int) -> tuple[Cell, Bands]:
    """Cell `number` of a class, and the bands of its arm."""
    rng = np.random.default_rng([sorted(TRUTHS).index(name), number])
    of = arm(rng)
    levels = calm_levels(of)
    back_s = TRUTHS[name][0](levels, of, rng)
    cell = Cell(of, _course(levels, of, rng, spiked=name != "placebo"), back_s)
    calm = [_course(calm_levels(of), of, rng) for _ in range(CALM_RUNS)]
    return cell, bands([cell.stretches().steady, *(course.cut(0, HORIZON_S) for course in calm)])


def _course(levels: Levels, of: Arm, rng: np.random.Generator, spiked: bool = False) -> Course:
    glitch = rng.random(HORIZON_S) < 0.003
    rate = of.load_rps * (rng.gamma(1 / of.bursty**2, of.bursty**2, HORIZON_S) if of.bursty else np.ones(HORIZON_S))
    rate[STEADY_S:BACK_S] *= 3 if spiked else 1
    scheduled: Array = rng.poisson(rate).astype(np.float64)
    success = np.clip(levels.success - 0.1 * glitch, 0, 1)
    succeeded = rng.binomial(scheduled.astype(np.int64), success).astype(np.float64)
    attempts = (scheduled + rng.poisson(scheduled * levels.retries)).astype(np.float64)
    waiting = rng.poisson(levels.waiting).astype(np.float64)
    running = rng.poisson(20, HORIZON_S).astype(np.float64)
    hit_rate = np.clip(levels.hit_rate + 0.02 * rng.standard_normal(HORIZON_S), 0, 1)
    waste = np.clip(levels.waste + 0.02 * rng.standard_normal(HORIZON_S), 0, 1)
    left = np.ones(DRAIN_S) if levels.stuck else np.clip(1 - np.arange(DRAIN_S) / 10, 0, 1)
    none = np.zeros(DRAIN_S)

    def drained(values: Array, after: Array) -> Array:
        return np.concatenate((values, after)).astype(np.float64)

    return Course(
        start_s=0,
        scheduled=drained(scheduled, none),
        succeeded=drained(succeeded, none),
        undecided=np.zeros(HORIZON_S + DRAIN_S),
        cohort_attempts=drained(attempts, none),
        computed_tokens=drained(1000.0 * attempts, none),
        useful_tokens=drained(1000.0 * attempts * (1 - waste), none),
        in_flight=drained(waiting + running, (waiting[-1] + running[-1]) * left),
        waiting=drained(waiting, waiting[-1] * left),
        queue_age_s=drained(levels.queue_age_s * rng.gamma(4, 0.25, HORIZON_S), levels.queue_age_s[-1] * left),
        kv_used=drained(np.full(HORIZON_S, 0.5), 0.5 * left),
        hit_rate=drained(hit_rate, none + hit_rate[-1]),
        engine_ended=drained(scheduled, none if levels.stuck else none + 5),
    )
