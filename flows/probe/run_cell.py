"""Runs one ask in virtual time, judges it from its rows in memory, and leaves one evidence file. It keeps no rows."""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from flows.probe.cell import Planned, identified, planned
from flows.probe.evidence import calm_course, key_of, read_answer, write_evidence
from flows.probe.looking import Decided, Watcher, steady_of, stretches
from flows.probe.measures import calm_measures, late_measures, levels, lost_goodput
from flows.probe.pool import profile_of
from flows.study import Study
from replay.recorder import Recorder
from replay.virtual import VirtualRun
from replay.virtual_cell import check_conservation
from reports.bands import Bands, Slack, bands
from reports.course import Course
from reports.probe.asks import Answer, Ask
from reports.verdict import Verdict, holds_slo, judge, roots_met
from reports.verdict_rows import QUEUE_SLACK
from workloads.trace_table import Trace

CALM = "calm"
NOTHING_LATE = dict.fromkeys(("amplification", "waste", "hit_end", "spill"))


@dataclass(frozen=True, slots=True)
class Scene:
    """What all cells of a probe share."""

    study: Study
    trace: Trace
    c_ref_rps: float
    cells: Path


def run_cell(scene: Scene, ask: Ask, calm: tuple[str, ...]) -> Answer:
    """The answer to an ask, from its evidence file where that holds it already; `calm` are the placebo cells of its arm and load.

    Raises ValueError for an ask that no cell can be made of, or one that is to be judged without calm cells.
    """
    cpu_began = time.process_time()
    cell = identified(scene.study, scene.trace, ask)
    path, key = scene.cells / f"{cell.cell_id}.parquet", key_of(cell.cell_id, calm)
    found = read_answer(path, key)
    if found is not None:
        return found
    plan = planned(cell, scene.trace)
    if plan.judged and not calm:
        raise ValueError(f"cell {plan.cell_id} ({ask.router}, {ask.guard}): no calm cell at {ask.load_rps:g} rps to judge it by")
    recorder = Recorder()
    known = _bands(tuple(str(scene.cells / f"{cell_id}.parquet") for cell_id in calm), slack_of(scene.study)) if calm else None
    watcher = Watcher(plan, known, scene.c_ref_rps, recorder) if plan.judged else None
    run = VirtualRun(plan.cell, plan.workload, profile_of(plan.study), recorder, watch=watcher)
    if watcher is not None:
        watcher.run = run
    ended_s = run.run()
    check_conservation(run.client.counts, recorder)
    course = Watcher(plan, known, scene.c_ref_rps, recorder).course(ended_s)
    decided = watcher.decided if watcher is not None else None
    assert decided is not None or not plan.judged, "the watcher decides before the last phase ends"
    if decided is not None and known is not None and decided.verdict.verdict != "unstable":
        decided = _after_the_drain(plan, course, known, decided)
    if decided is None:
        decided = Decided(_undisturbed(plan, course), plan.timing.horizon_s, 0.0)
    answer = _answer(plan, run, recorder, course, known, decided, time.process_time() - cpu_began)
    write_evidence(path, course, phases_of(plan, decided), answer, key)
    return answer


def phases_of(plan: Planned, decided: Decided) -> list[tuple[str, float, float]]:
    """The workload's phases as they were: the last one ends when the verdict was reached."""
    return [(name, a, min(b, decided.at_s)) for name, a, b in plan.workload.phase_bounds() if a < decided.at_s]


def _after_the_drain(plan: Planned, course: Course, calm: Bands, decided: Decided) -> Decided:
    """The verdict once more, now that it is known how the pool drained: what was recovered stays so."""
    if decided.verdict.recovery_s is not None:
        return decided
    cell = stretches(plan, course, plan.timing.trigger_end_s + decided.observed_s, decided.at_s)
    return Decided(judge(cell, calm), decided.at_s, decided.observed_s)


def _undisturbed(plan: Planned, course: Course) -> Verdict:
    met, known = roots_met(course.cut(*steady_of(plan)))
    return Verdict(CALM if plan.ask.pieces or not known or holds_slo(met, known) else "unstable")


@lru_cache(maxsize=128)
def _bands(calm: tuple[str, ...], slack: Slack) -> Bands:
    return bands([calm_course(Path(path)) for path in calm], slack)


def slack_of(study: Study) -> Slack:
    limit_s = study.slo.ttft_s
    return Slack(queue_age_s=max(Slack().queue_age_s, QUEUE_SLACK * limit_s)) if limit_s else Slack()


def _answer(
    plan: Planned, run: VirtualRun, recorder: Recorder, course: Course, calm: Bands | None, decided: Decided, cpu_s: float
) -> Answer:
    verdict = decided.verdict
    judged = plan.judged and verdict.verdict != "unstable"
    until_s = plan.timing.trigger_end_s + decided.observed_s
    late = late_measures(plan, course, recorder, until_s) if judged else NOTHING_LATE
    return Answer(
        ask=plan.ask,
        cell_id=plan.cell_id,
        verdict=verdict.verdict or CALM,
        recovered=verdict.recovery_s is not None if judged else None,
        recovery_s=_from_trigger_end(plan, verdict) if judged else None,
        censored_s=decided.observed_s if judged and verdict.recovery_s is None else None,
        observed_s=decided.observed_s,
        cause=verdict.cause or "",
        false_alarm=None,
        roots=int(course.scheduled.sum()),
        levels=levels(plan, course),
        lost_goodput=lost_goodput(plan, course, calm, until_s) if judged and calm is not None else None,
        left_in_drain=run.in_engines,
        attempts=len(recorder.attempt_log),
        cpu_s=cpu_s,
        evidence=f"cells/{plan.cell_id}.parquet",
        **calm_measures(plan, course, recorder.attempt_log.table()),  # type: ignore[arg-type]
        **late,
    )


def _from_trigger_end(plan: Planned, verdict: Verdict) -> float | None:
    """Seconds from the trigger's end: the load was back `clock_start_s` into the run, recovery followed."""
    if verdict.recovery_s is None or verdict.clock_start_s is None:
        return None
    return verdict.clock_start_s - plan.timing.trigger_end_s + verdict.recovery_s
