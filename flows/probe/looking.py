"""Looks at one run while it lasts and ends it once its verdict is decided. It makes no rows and moves no request."""

from dataclasses import dataclass
from math import ceil

import numpy as np
import pyarrow as pa

from flows.probe.cell import Planned
from replay.recorder import Recorder
from replay.row_log import RowLog
from replay.rows import ReplicaSample
from replay.virtual import VirtualRun
from reports.bands import Bands
from reports.course import Course
from reports.live_course import course_of
from reports.scene import LOAD_TRIGGERS
from reports.verdict import HOLD_S, SETTLE_S, TRIM_S, Stretches, Verdict, holds_slo, judge, roots_met, settled
from reports.verdict_rows import OPEN_S

LEAST_OBSERVED_S, TIMEOUTS, CLEARINGS = 300.0, 10, 5
"""A run that has not recovered is looked at for so long and so many timeouts, and then, while its backlog shrinks, for as long as
so many times what clearing it would take at the spare capacity."""
SHRUNK, SHRUNK_S = 0.95, 60  # the backlog is smaller than this share of what it was, over so many seconds
LEAST_SPARE = 0.02  # of the capacity: at a load nearer to it no queue ever clears
LATENT_S = 60.0  # how much longer a cache that is still cold is given
EVERY_S, GROWTH = 5.0, 1.1
QUIET_S, QUIET_SHARE = HOLD_S, 0.8


@dataclass(frozen=True, slots=True)
class Decided:
    """A verdict, when it was reached (seconds from the run's start), and over which seconds."""

    verdict: Verdict
    at_s: float
    observed_s: float


class Watcher:
    """Watches a judged cell. `decided` is None while it is not; a run without arrivals left is judged once it has drained."""

    def __init__(self, planned: Planned, calm: Bands | None, capacity_rps: float, recorder: Recorder) -> None:
        self._planned, self._calm, self._recorder = planned, calm, recorder
        self._capacity_rps = capacity_rps
        self._slo = planned.study.slo.model_dump()
        self._lag_s = self._slo["ttft_s"] or TRIM_S
        self.run: VirtualRun | None = None
        self.decided: Decided | None = None
        timing = planned.timing
        self._look_s = timing.steady[1] + self._lag_s
        client = planned.cell.client
        patience_s = max(client.ttft_timeout_s or 0.0, client.total_timeout_s or 0.0)
        self._least_s = max(LEAST_OBSERVED_S, TIMEOUTS * patience_s)
        self._longest_s: float | None = None
        self._checked_steady = False

    def __call__(self, now_s: float) -> None:
        if self.decided is not None or now_s < self._look_s:
            return
        timing = self._planned.timing
        if not self._checked_steady:
            self._checked_steady = True
            self._look_s = timing.trigger_end_s
            if not self._carries(now_s):
                self._end(Verdict("unstable", cause="the SLO is missed before the trigger, beyond chance"), now_s, 0.0, 0.0)
            return
        if self._longest_s is None:
            self._longest_s = self._longest_needed()
            self._look_s = min(timing.trigger_end_s + SETTLE_S + self._lag_s, timing.horizon_s - 1)
            return
        observed_s = now_s - self._lag_s - timing.trigger_end_s
        last = observed_s >= self._longest_s or now_s + 1 >= timing.horizon_s
        if not last and not self._quiet() and (observed_s < self._least_s or self._shrinks()):
            self._look_s = min(now_s + EVERY_S, timing.horizon_s - 1)
            return
        self._look_s = min(now_s + max(EVERY_S, (GROWTH - 1) * observed_s), timing.horizon_s - 1)
        assert self._calm is not None, "a judged cell has bands"
        until_s = int(now_s - self._lag_s)
        cell = stretches(self._planned, self.course(now_s), until_s, until_s)
        verdict = judge(cell, self._calm)
        stuck = verdict.verdict == "metastable" and observed_s >= self._least_s and not self._shrinks()
        if last or stuck or settled(cell.after, self._calm) or self._stays_cold(verdict, until_s):
            self._end(verdict, now_s, float(len(cell.after)), self._planned.cell.drain_s)

    def _stays_cold(self, verdict: Verdict, until_s: float) -> bool:
        """Latent, though its cache has had `LATENT_S` more than a recovery has."""
        if verdict.verdict != "latent" or verdict.recovery_s is None or verdict.clock_start_s is None:
            return False
        return until_s - verdict.clock_start_s - verdict.recovery_s >= SETTLE_S + LATENT_S

    def _end(self, verdict: Verdict, now_s: float, observed_s: float, drain_s: float) -> None:
        assert self.run is not None
        self.decided = Decided(verdict, now_s, observed_s)
        self.run.client.admit_no_more(now_s)
        self.run.end_by(now_s + drain_s)

    def _carries(self, now_s: float) -> bool:
        start_s, end_s = steady_of(self._planned)
        met, decided = roots_met(self.course(now_s).cut(start_s, end_s))
        return decided > 0 and holds_slo(met, decided)

    def _longest_needed(self) -> float:
        """How long a run that does not recover is looked at: `CLEARINGS` times what clearing its excess work would take."""
        assert self.run is not None
        inside = max(self.run.in_engines, self.run.client.open_attempts)
        start_s, end_s = steady_of(self._planned)
        calm = self._mean_inside(start_s, end_s)
        spare_rps = max(LEAST_SPARE * self._capacity_rps, self._capacity_rps - self._planned.ask.load_rps)
        clearing_s = max(0.0, inside - calm) / spare_rps
        return max(self._least_s, CLEARINGS * clearing_s)

    def _shrinks(self) -> bool:
        """Whether the engines hold less than just after the trigger: then a backlog may still clear."""
        end_s, last_s = self._planned.timing.trigger_end_s, self._recorder.samples[-1].t_us / 1e6 + 1
        return self._mean_inside(last_s - SHRUNK_S, last_s) < SHRUNK * self._mean_inside(end_s, end_s + SHRUNK_S)

    def _mean_inside(self, start_s: float, end_s: float) -> float:
        """Requests in the engines, mean over the seconds from `start_s` to before `end_s`."""
        replicas, samples = self._planned.cell.pool.replicas, self._recorder.samples
        seen = samples[int(start_s) * replicas : int(end_s) * replicas]
        return sum(s.running + s.waiting for s in seen) * replicas / max(1, len(seen))

    def _quiet(self) -> bool:
        """Whether the queues of the last seconds are as in calm ones: a cheap look that spares most of the dear ones."""
        assert self._calm is not None
        replicas = self._planned.cell.pool.replicas
        last = self._recorder.samples[-replicas * QUIET_S :]
        ages = np.array([s.queue_age_us or 0 for s in last], dtype=np.float64).reshape(-1, replicas).max(axis=1) / 1e6
        return float((ages <= self._calm.queue_age_s.high).mean()) >= QUIET_SHARE

    def course(self, until_s: float) -> Course:
        """The run's course so far."""
        return course_of(self._recorder.attempt_log.table(), sample_table(self._recorder), self._slo, until_s)


def sample_table(recorder: Recorder) -> pa.Table:
    """The gauges so far as an Arrow table."""
    log = RowLog(ReplicaSample, settled=lambda row: True)
    for sample in recorder.samples:
        log.append(sample)
    return log.table()


def steady_of(planned: Planned) -> tuple[float, float]:
    """The calm seconds before the trigger, without the last ones: their requests may still be open when it hits."""
    start_s, end_s = planned.timing.steady
    struck = planned.cell.trigger["kind"] not in ("placebo", *LOAD_TRIGGERS)
    trim_s = min(OPEN_S if struck else TRIM_S, (end_s - start_s) // (2 if struck else 4))
    return start_s, end_s - trim_s


def stretches(planned: Planned, course: Course, after_until_s: float, drain_from_s: float) -> Stretches:
    """What `judge` looks at: the seconds before the trigger, those after it until `after_until_s`, and the drain."""
    start_s, end_s = steady_of(planned)
    trigger_end_s = planned.timing.trigger_end_s
    until_s, drain_s = min(after_until_s, len(course)), min(ceil(drain_from_s), len(course))
    return Stretches(
        course.cut(start_s, end_s), course.cut(trigger_end_s, max(trigger_end_s, until_s)), course.cut(drain_s, len(course))
    )
