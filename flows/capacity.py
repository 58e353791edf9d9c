"""Runs the search for C_ref, the warm capacity of least_outstanding without retries. Which load to try is reports.protocol's."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.grid import PlannedWorkload, cell_of, is_finished
from flows.replay_processes import ReplayProcesses
from flows.run_folder import RunFolder, write_aside
from flows.study import Client, GuardSet, NamedChoice, Study, Trigger
from replay.cell import Cell

REFERENCE_ROUTER = NamedChoice(name="least_outstanding")
REFERENCE_CLIENT = Client(name="no retries", ttft_timeout_s=None, max_attempts=1)
START_RPS_PER_REPLICA = 8.0
"""The first load tried; the search brackets from here, so only its number of tries depends on it."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """C_ref in first attempts per second and the loads that bracket it."""

    c_ref_rps: float
    low_rps: float
    high_rps: float


Synthesize = Callable[[Study, float, int, Path], PlannedWorkload]
"""Makes one seed's workload at a load (rps) into a folder."""


def reference_study(study: Study) -> Study:
    """The study that C_ref is measured on: same pool, workload and SLO, no trigger, and a tail that keeps the pool loaded."""
    tail_s = min(10.0, study.phases.recovery_s)
    return study.model_copy(
        update={
            "trigger": Trigger(kind="placebo", d_s=tail_s),
            "phases": study.phases.model_copy(update={"recovery_s": tail_s}),
            "routers": [REFERENCE_ROUTER],
            "guards": [GuardSet(label="none")],
            "client": [REFERENCE_CLIENT],
        }
    )


def find_capacity(
    study: Study, folder: RunFolder, processes: ReplayProcesses, synthesize: Synthesize, on_probe: Callable[[float, float], None]
) -> Capacity:
    """Probe loads until C_ref is bracketed; writes capacity.json with every probe. `on_probe(load_rps, success)` reports one.

    Probes that are finished in the folder are found again. ValueError when no load passes or none fails.
    """
    from reports.protocol import capacity_estimate, capacity_next

    reference = reference_study(study)
    results: list[tuple[float, float]] = []
    probes: list[dict[str, Any]] = []
    start_rps = START_RPS_PER_REPLICA * study.pool.replicas

    def probe(load_rps: float) -> tuple[Cell, float]:
        cell, success = _probe(reference, load_rps, folder, processes, synthesize)
        on_probe(load_rps, success)
        return cell, success

    with ThreadPoolExecutor(processes.count) as threads:
        while loads := capacity_next(results, start_rps, at_once=processes.count):
            for load_rps, (cell, success) in zip(loads, threads.map(probe, loads), strict=True):
                results.append((load_rps, success))
                probes.append({"load_rps": load_rps, "success": success, "cell_id": cell.cell_id, "seed": cell.seed})
    capacity = Capacity(*capacity_estimate(results))
    _write(folder.capacity, capacity, probes)
    return capacity


def _probe(
    study: Study, load_rps: float, folder: RunFolder, processes: ReplayProcesses, synthesize: Synthesize
) -> tuple[Cell, float]:
    from reports.protocol import cohort_success

    seed = study.seeds[0]
    folder.capacity_cells.mkdir(parents=True, exist_ok=True)
    workload = synthesize(study, load_rps, seed, folder.capacity_workloads)
    cell = cell_of(study, REFERENCE_ROUTER, study.guards[0], REFERENCE_CLIENT, workload, load_rps, seed)
    cell_folder = folder.capacity_cells / cell.cell_id
    if not is_finished(cell, cell_folder):
        with processes.lent() as process:
            process.run(cell, cell_folder)
    success = cohort_success(cell_folder / "attempts.parquet", cell_folder / "cell.json", study.slo.model_dump())
    return cell, success


def _write(path: Path, capacity: Capacity, probes: Sequence[dict[str, Any]]) -> None:
    content = {
        "c_ref_rps": capacity.c_ref_rps,
        "low_rps": capacity.low_rps,
        "high_rps": capacity.high_rps,
        "router": REFERENCE_ROUTER.name,
        "client": REFERENCE_CLIENT.name,
        "probes": sorted(probes, key=lambda probe: float(probe["load_rps"])),
    }
    write_aside(path, json.dumps(content, indent=1))
