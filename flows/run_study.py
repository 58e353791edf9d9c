"""The Prefect flow of one study: trace → workloads → capacity → live cells → cells → tables → page. It does no step itself.

Importing this imports Prefect, which reads PREFECT_* from the environment then: enter `flows.embedded_server.prefect_api` first.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows import manifest
from flows.build_report import build_page, build_report, build_tables
from flows.capacity import Capacity, find_capacity
from flows.choose_run import choose
from flows.failure import say
from flows.grid import PlannedWorkload, batches, finished_names, grid, live_cells, remaining
from flows.progress import RunProgress, Stage
from flows.ready_here import Ready, ready_here
from flows.replay_processes import ReplayProcesses, default_count
from flows.run_folder import RunFolder, write_aside
from flows.study import Study
from flows.workload_plan import plan_facts, read_trace, read_trace_file, synthesize_workload
from replay.cell import Cell
from replay.code import code_hash

if TYPE_CHECKING:
    from flows.live_run import Sending
    from replay.measured import Place


def on_threads(count: int) -> TaskRunner[PrefectFuture[Any]]:
    """Tasks on `count` threads: each drives one child process, so more would only wait."""
    return ThreadPoolTaskRunner(max_workers=count)  # type: ignore[return-value]


class Run:
    """What the tasks of one run share: a plain class, so that Prefect passes it on without looking inside."""

    def __init__(self, study: Study, ready: Ready, folder: RunFolder, processes: ReplayProcesses, progress: RunProgress) -> None:
        self.study, self.ready, self.folder, self.processes, self.progress = study, ready, folder, processes, progress
        self.cells: dict[str, Cell] = {}
        self.trace = read_trace_file(str(folder.conversations))
        self.attempts = 0
        self.failed = False

    def synthesize(self, study: Study, load_rps: float, seed: int, folder: Path) -> PlannedWorkload:
        return synthesize_workload(self.trace, study, load_rps, seed, folder)

    def note(self, **facts: Any) -> None:
        """Add facts to the manifest."""
        write_aside(self.folder.manifest, json.dumps(self.folder.read_manifest() | facts, indent=1, default=str))


@task(cache_policy=NO_CACHE)
def import_trace(study_text: str, path: str, resume: bool) -> None:
    """Read the trace, then make the run folder that holds it: a malformed row leaves no folder behind."""
    from workloads.conversations_file import write_conversations

    study, folder = Study.model_validate_json(study_text), RunFolder(Path(path))
    if resume and folder.conversations.is_file():
        return
    trace = read_trace(study)
    if not resume:
        folder.create(study)
    write_conversations(trace, folder.conversations)


@task(cache_policy=NO_CACHE)
def capacity(run: Run) -> Capacity:
    """C_ref of the study's pool, workload and SLO."""
    stage = run.progress.stage("capacity", 14)

    def on_probe(load_rps: float, success: float) -> None:
        stage.advance(note=f"{load_rps:.3g} rps: {success:.1%} met the SLO")

    found = find_capacity(run.study, run.folder, run.processes, run.synthesize, on_probe)
    stage.finish(f"C_ref {found.c_ref_rps:.4g} rps")
    return found


@task(cache_policy=NO_CACHE)
def synthesize(run: Run, load_rps: float, seed: int) -> dict[str, Any]:
    """One seed's workload file; as plain facts, since they also go into the manifest."""
    planned = run.synthesize(run.study, load_rps, seed, run.folder.workloads)
    return {"hash": planned.content_hash, "requests": planned.requests}


@task(cache_policy=NO_CACHE)
def compare(run: Run, planned: PlannedWorkload, seed: int) -> dict[str, Any]:
    """Whether a seed's plan is what the trace says; as plain facts, since they go into the manifest."""
    return manifest.fidelity_facts(run.trace, planned.path, planned.requests, seed)


@task(cache_policy=NO_CACHE)
def replay_batch(run: Run, cell_ids: list[str], stage: Stage) -> None:
    """Run a batch of cells in one child process, one after another; stops when another batch has failed."""
    try:
        with run.processes.lent() as process:
            for cell_id in cell_ids:
                if run.failed:
                    return
                finished = process.run(run.cells[cell_id], run.folder.cells / cell_id)
                run.attempts += finished.attempts
                stage.advance(note=f"{run.attempts / stage.elapsed_s:,.0f} attempts/s")
    except BaseException:
        run.failed = True
        raise


class Bench:
    """Where a live cell runs, and what it is: a plain class, as `Run`."""

    def __init__(self, cell: Cell, place: "Place", folder: Path) -> None:
        self.cell, self.place, self.folder = cell, place, folder


@task(cache_policy=NO_CACHE)
def try_sender(plan: "Sending") -> dict[str, Any]:
    """The sender on a stub whose timing is known."""
    from flows.live_run import sender_tested

    return sender_tested(plan)


@task(cache_policy=NO_CACHE)
def measure(bench: Bench) -> None:
    """One cell on a running live pool; never tried again."""
    from replay.measured import run_measured_cell

    run_measured_cell(bench.cell, bench.place, bench.folder)


@task(cache_policy=NO_CACHE)
def aggregate(run: Path) -> Path:
    """results.duckdb from the cells' Parquet files."""
    return build_tables(run)


@task(cache_policy=NO_CACHE)
def report(run: Path) -> Path:
    """report.html from results.duckdb."""
    return build_page(run)


@flow(name="study", task_runner=on_threads(default_count()))
def run_study(
    study: str | None = None,
    out: str | None = None,
    sets: list[str] | None = None,
    seed: int | None = None,
    resume: str | None = None,
    processes: int | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Run a whole study into a new folder, or what is missing of one in `resume`; returns {"report", "run", "void"}.

    StudyError for a study that cannot run (nothing is written then), CellFailed when a cell does not finish.
    """
    chosen, path = choose(study, out, sets, seed, resume)
    ready = ready_here(chosen)
    with RunProgress() as progress:
        stage = progress.stage("trace", 1)
        import_trace(chosen.model_dump_json(), str(path), resume is not None)
        stage.finish()
        folder = RunFolder(path)
        count = min(processes or default_count(), chosen.arms * len(chosen.seeds) * len(chosen.pools))
        with folder.locked(), ReplayProcesses(count, folder.log) as children:
            run = Run(chosen, ready, folder, children, progress)
            _begin(run, command or sys.argv)
            load_rps = _load_rps(run)
            workloads = _workloads(run, load_rps)
            _replay(run, workloads, load_rps)
            return _conclude(run)


def _begin(run: Run, command: list[str]) -> None:
    known = run.folder.read_manifest()
    facts = manifest.started(run.study, command) | {"trace": dict(run.trace.provenance)}
    if known:
        facts |= {"started_utc": known["started_utc"], "resumed_utc": [*known.get("resumed_utc", []), manifest.now_utc()]}
    run.note(**facts)


def _load_rps(run: Run) -> float:
    load = run.study.load
    if load.rps is not None:
        run.note(load_rps=load.rps, capacity=None)
        return load.rps
    assert load.fraction is not None
    found = capacity(run)
    load_rps = float(f"{load.fraction * found.c_ref_rps:.6g}")
    run.note(load_rps=load_rps, capacity=asdict(found))
    run.study.check_size(load_rps)
    run.study.check_enough(load_rps)
    return load_rps


def _workloads(run: Run, load_rps: float) -> dict[int, PlannedWorkload]:
    known = run.folder.read_manifest()
    stage = run.progress.stage("workloads", len(run.study.seeds))
    found = known.get("workloads", {}) if known.get("workloads_code") == code_hash() else {}
    workloads: dict[int, PlannedWorkload] = {}
    for seed in run.study.seeds:
        facts = found.get(str(seed))
        if facts is None or not (run.folder.workloads / f"{facts['hash']}.parquet").is_file():
            facts = synthesize(run, load_rps, seed)
        path = run.folder.workloads / f"{facts['hash']}.parquet"
        workloads[seed] = PlannedWorkload(path, facts["hash"], facts["requests"], plan_facts(run.trace, run.study))
        stage.advance(note=f"{facts['requests']:,} requests")
    made = {str(seed): {"hash": w.content_hash, "requests": w.requests} for seed, w in workloads.items()}
    run.note(workloads=made, workloads_code=code_hash())
    first = run.study.seeds[0]
    if "fidelity" not in known or found.get(str(first)) != made[str(first)]:
        run.note(fidelity=compare(run, workloads[first], first))
    stage.finish()
    return workloads


def _replay(run: Run, workloads: dict[int, PlannedWorkload], load_rps: float) -> None:
    live = {title: live_cells(run.study, pool.spec, workloads, load_rps) for title, pool in run.ready.pools.items()}
    virtual = grid(run.study, workloads, load_rps)
    cells = [*virtual, *(cell for on_pool in live.values() for cell in on_pool)]
    run.cells = {cell.cell_id: cell for cell in cells}
    there = finished_names(run.folder.cells)
    missing = {cell.cell_id for cell in remaining(cells, run.folder.cells)}
    if gone := there - finished_names(run.folder.cells):
        say(f"{len(gone)} finished cells were of other code, engines or plans, and run again")
    run.note(cells={"total": len(cells), "found_again": len(cells) - len(missing)})
    to_measure = {title: todo for title, all_ in live.items() if (todo := [c for c in all_ if c.cell_id in missing])}
    if to_measure:
        _measure_all(run, to_measure, load_rps)
    requests = {w.content_hash: w.requests for w in workloads.values()}
    _replay_virtual(run, virtual, [cell for cell in virtual if cell.cell_id in missing], requests)


def _measure_all(run: Run, cells: dict[str, list[Cell]], load_rps: float) -> None:
    """Live cells, pool after pool, each pool alone on this host; nothing else of the run works meanwhile."""
    from flows.live_run import run_pool, sending, words_of_test
    from replicas.launch.cards import Cards

    plan = sending(run.study, load_rps, float(run.trace.reply_tokens.mean()))
    stage = run.progress.stage("sender's self-test", 1)
    tested = try_sender(plan)
    stage.finish(words_of_test(tested))
    cards = sorted(set(Cards().names.values()))
    run.note(self_test=tested, senders=plan.senders, prompts=plan.prompt, gateways=run.ready.gateways, cards=cards)

    def note(engines: list[dict[str, Any]]) -> None:
        known = [engine for engine in run.folder.read_manifest().get("engines", []) if engine["pool"] != engines[0]["pool"]]
        run.note(engines=[*known, *engines])

    for title, on_pool in cells.items():
        pool = run.ready.pools[title]
        run_pool(pool, on_pool, plan, run.folder, run.progress, lambda cell, place, to: measure(Bench(cell, place, to)), note)


def _replay_virtual(run: Run, cells: list[Cell], missing: list[Cell], requests: dict[str, int]) -> None:
    if not cells:
        return
    stage = run.progress.stage("cells" if not run.study.is_live else "simulated cells", len(cells))
    stage.advance(len(cells) - len(missing), note="found again" if len(missing) < len(cells) else "")
    running = [
        replay_batch.submit(run, [cell.cell_id for cell in batch], stage)
        for batch in batches(missing, requests, run.processes.count)
    ]
    for future in running:
        future.wait()
    for future in running:
        future.result()
    stage.finish()


def _conclude(run: Run) -> dict[str, Any]:
    run.note(ended_utc=manifest.now_utc())
    return build_report(run.folder.path, run.progress, aggregate, report)
