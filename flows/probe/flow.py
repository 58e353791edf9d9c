"""The Prefect flow of one probe: trace → C_ref → rounds of cells → tables → page. It orders the steps and does none.

Importing this imports Prefect, which reads PREFECT_* from the environment then: enter `flows.embedded_server.prefect_api` first.
"""

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows import manifest
from flows.probe.answers import Heard
from flows.probe.plan import checked, plan_of_probe
from flows.probe.pool import measured_profile, pool_of
from flows.probe.processes import ProbeProcesses
from flows.probe.tables import write_results
from flows.progress import RunProgress, Stage
from flows.ready_here import Ready
from flows.replay_processes import ReplayProcesses, default_count
from flows.run_folder import RunFolder, write_aside
from flows.run_study import Run, capacity, import_trace, on_threads
from flows.study import Study
from reports.probe.asks import PHASES, Answer, Ask
from reports.probe.plan import ProbePlan

BATCHES_A_PROCESS = 3
MOST_IN_A_BATCH = 24
"""A batch is a Prefect task: large enough that the task costs little beside it, small enough that no process waits long."""


class Probe:
    """What the tasks of one probe share: a plain class, so that Prefect passes it on without looking inside."""

    def __init__(self, study: Study, plan: ProbePlan, folder: RunFolder, processes: ProbeProcesses) -> None:
        self.study, self.plan, self.folder, self.processes = study, plan, folder, processes
        self.heard = Heard(study, folder)
        self.failed = False


@task(cache_policy=NO_CACHE, task_run_name="cells")
def ask_batch(probe: Probe, asks: Sequence[Ask], stage: Stage) -> list[Answer]:
    """The answers to a batch of asks, one after another in one child; stops when another batch has failed."""
    answers = []
    try:
        with probe.processes.lent() as process:
            for ask in asks:
                if probe.failed:
                    break
                answers.append(probe.processes.ask(process, ask, probe.heard.calm_cells(ask)))
                stage.advance()
    except BaseException:
        probe.failed = True
        raise
    return answers


@task(cache_policy=NO_CACHE)
def conclude(probe: Probe) -> Path:
    """results.duckdb: all answers, the evidence, and what they mean."""
    from reports.probe.conclude import findings

    answers = probe.heard.answers
    return write_results(probe.folder.path, answers, findings(probe.plan, answers))


@task(cache_policy=NO_CACHE)
def draw(run: Path) -> Path:
    """report.html from results.duckdb."""
    from reports.probe.page import build_probe_page

    return build_probe_page(run)


@flow(name="probe", task_runner=on_threads(default_count()))
def run_probe(
    study: str,
    path: str,
    resume: bool,
    phases: list[str],
    processes: int | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Probe a study (JSON) in the run folder `path`; returns {"report", "run", "void": []} and what it took.

    StudyError for a study that cannot be probed, CellFailed when a cell does not finish.
    """
    chosen, folder = Study.model_validate_json(study), RunFolder(Path(path))
    checked(chosen, phases)
    began_s = time.monotonic()
    with RunProgress() as progress:
        import_trace(study, path, resume)
        count = processes or default_count()
        with folder.locked():
            c_ref_rps = _c_ref(chosen, folder, count, progress, command or sys.argv)
            plan = plan_of_probe(chosen, c_ref_rps, phases or PHASES)
            _note(folder, probed_phases=plan.phases, derated=derated(chosen))
            with ProbeProcesses(count, folder) as children:
                probe = Probe(chosen, plan, folder, children)
                _rounds(probe, progress)
            stage = progress.stage("report", 2)
            conclude(probe)
            stage.advance(note="tables")
            _note_end(probe, began_s)
            page = draw(folder.path)
            stage.finish("page")
    return {"report": str(page), "run": str(folder.path), "void": []}


def _c_ref(study: Study, folder: RunFolder, count: int, progress: RunProgress, command: list[str]) -> float:
    """C_ref as `run` finds it, or the study's load.rps; into the manifest, where the children read it."""
    known = folder.read_manifest()
    with ReplayProcesses(count, folder.log) as replays:
        run = Run(study, Ready(), folder, replays, progress)
        facts = manifest.started(study, command) | {"trace": dict(run.trace.provenance)}
        if known:
            facts |= {"started_utc": known["started_utc"], "resumed_utc": [*known.get("resumed_utc", []), manifest.now_utc()]}
        run.note(**facts)
        found = capacity(run) if study.load.rps is None else None
        c_ref_rps = study.load.rps or float(f"{found.c_ref_rps:.6g}" if found else "nan")
        run.note(c_ref_rps=c_ref_rps, capacity=None if found is None else asdict(found))
    return c_ref_rps


def _rounds(probe: Probe, progress: RunProgress) -> None:
    """Ask, run, listen, until nothing is left to ask. Every round waits for all its answers."""
    from reports.probe.protocol import next_asks

    number = 0
    while asks := next_asks(probe.plan, probe.heard.answers):
        number += 1
        words = ", ".join(f"{phase} {n}" for phase, n in Counter(ask.phase for ask in asks).items())
        stage = progress.stage(f"round {number} ({words})", len(asks))
        running = [ask_batch.submit(probe, batch, stage) for batch in batches(asks, probe.processes.count)]
        for future in running:
            future.wait()
        probe.heard.add([answer for future in running for answer in future.result()])
        stage.finish(f"{len(probe.heard.answers)} cells so far")


def batches(asks: Sequence[Ask], processes: int) -> list[list[Ask]]:
    """Asks in turn over so many batches that each process gets a few of them: dear and cheap ones end up mixed."""
    count = max(min(len(asks), BATCHES_A_PROCESS * processes), -(-len(asks) // MOST_IN_A_BATCH))
    return [list(asks[i::count]) for i in range(count)]


def derated(study: Study) -> str | None:
    """In words, what of the engine profile was changed for this pool; None where nothing was."""
    profile = measured_profile(study)
    changes = [f"{key} {value} (measured: {getattr(profile, key)})" for key, value in pool_of(study).changes.items()]
    return f"{profile.name} with {', '.join(changes)}" if changes else None


def _note_end(probe: Probe, began_s: float) -> None:
    cpu_s = probe.heard.cpu_s
    cells = len(probe.heard.answers)
    wall_s = time.monotonic() - began_s
    by_phase: dict[str, int] = defaultdict(int)
    for answer in probe.heard.answers:
        by_phase[answer.ask.phase] += 1
    facts = {"total": cells, "by_phase": dict(by_phase), "cpu_s": round(cpu_s, 1), "wall_s": round(wall_s, 1)}
    _note(probe.folder, cells=facts, ended_utc=manifest.now_utc())
    mean_s = cpu_s / max(1, cells)
    print(f"probe: {cells:,} cells, {mean_s:.2f} CPU-s a cell, {wall_s:.0f} s", file=sys.stderr, flush=True)


def _note(folder: RunFolder, **facts: Any) -> None:
    write_aside(folder.manifest, json.dumps(folder.read_manifest() | facts, indent=1, default=str))
