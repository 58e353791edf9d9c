"""Runs the search for C_ref, the warm capacity of least_outstanding without retries. Which load to try is reports.protocol's."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
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
IDLE_RPS_PER_REPLICA = 0.05
"""Requests hardly ever meet at this load, so what misses the SLO here misses it by its own length."""
PROBE_REQUESTS = 1000
LONGEST_PROBE_S = 7200.0
UNSTEADY = ("mmpp2", "on_off", "trace")
PROBES_AT_ONCE = 2
"""A constant, not the number of cores: it picks the loads that are tried, and so C_ref itself."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """C_ref in first attempts per second, the loads that bracket it, and the share that meets the SLO on a nearly idle pool."""

    c_ref_rps: float
    low_rps: float
    high_rps: float
    idle_success: float


class CapacityNotFound(RuntimeError):
    """No load was found that the pool carries, or none that it does not; the message says what was tried."""


Synthesize = Callable[[Study, float, int, Path], PlannedWorkload]
"""Makes one seed's workload at a load (rps) into a folder."""


def reference_study(study: Study, load_rps: float) -> Study:
    """The study that C_ref is measured on: same pool, workload and SLO, no trigger, no events,
    a load that nothing modulates, and a tail that keeps the pool loaded.

    The steady phase is long enough for `PROBE_REQUESTS`: a share of 95% is then known to about ±1.4 points.
    """
    tail_s = min(10.0, study.phases.recovery_s)
    steady_s = min(max(study.phases.steady_s, PROBE_REQUESTS / load_rps), LONGEST_PROBE_S)
    return study.model_copy(
        update={
            "trigger": Trigger(kind="placebo", d_s=tail_s),
            "events": [],
            "workload": study.workload.model_copy(update={"arrival": unmodulated(study.workload.arrival)}),
            "phases": study.phases.model_copy(update={"steady_s": steady_s, "recovery_s": tail_s}),
            "routers": [REFERENCE_ROUTER],
            "guards": [GuardSet(label="none")],
            "client": [REFERENCE_CLIENT],
        }
    )


def unmodulated(arrival: Mapping[str, Any]) -> dict[str, Any]:
    """The arrival without what bends its rate; of a concatenation, its last piece. C_ref belongs to a load that stays.

    Processes whose own rate comes and goes (mmpp2, on_off, the trace's own times) become Poisson: a probe of some minutes would
    measure the bursts it happens to meet, and no capacity.
    """
    if "concatenate" in arrival:
        return unmodulated({k: v for k, v in arrival["concatenate"][-1].items() if k != "for_s"})
    plain = {key: value for key, value in arrival.items() if key != "modulate"}
    if "superpose" in arrival:
        return {"superpose": [unmodulated(part) for part in arrival["superpose"]]}
    if plain.get("process") in UNSTEADY:
        return {"process": "poisson", **{key: plain[key] for key in ("share",) if key in plain}}
    return plain


def find_capacity(
    study: Study, folder: RunFolder, processes: ReplayProcesses, synthesize: Synthesize, on_probe: Callable[[float, float], None]
) -> Capacity:
    """Probe loads until C_ref is bracketed; writes capacity.json with every probe. `on_probe(load_rps, success)` reports one.

    Probes that are finished in the folder are found again. CapacityNotFound when no load passes or none fails.
    """
    from reports.protocol import TARGET_SUCCESS, capacity_estimate, capacity_next

    probes: list[dict[str, Any]] = []

    def probe(load_rps: float) -> float:
        cell, success = _probe(study, load_rps, folder, processes, synthesize)
        probes.append({"load_rps": load_rps, "success": success, "cell_id": cell.cell_id, "seed": cell.seed})
        on_probe(load_rps, success)
        return success

    idle_success = probe(IDLE_RPS_PER_REPLICA * study.pools[0].replicas)
    if idle_success < TARGET_SUCCESS:
        raise CapacityNotFound(
            f"slo: even a nearly idle pool meets it for only {idle_success:.1%} of requests, and C_ref needs "
            f"{TARGET_SUCCESS:.0%}: loosen slo ({_limits(study)}), or give load.rps"
        )
    results: list[tuple[float, float]] = []
    start_rps = START_RPS_PER_REPLICA * study.pools[0].replicas
    with ThreadPoolExecutor(PROBES_AT_ONCE) as threads:
        while loads := capacity_next(results, start_rps, at_once=PROBES_AT_ONCE):
            results += zip(loads, threads.map(probe, loads), strict=True)
    try:
        capacity = Capacity(*capacity_estimate(results), idle_success)
    except ValueError as error:
        raise CapacityNotFound(f"{error}; load.fraction needs C_ref: change slo or pool, or give load.rps") from error
    _write(folder.capacity, capacity, probes)
    return capacity


def _limits(study: Study) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in study.slo.model_dump().items() if value is not None)


def _probe(
    study: Study, load_rps: float, folder: RunFolder, processes: ReplayProcesses, synthesize: Synthesize
) -> tuple[Cell, float]:
    from reports.protocol import cohort_success

    reference = reference_study(study, load_rps)
    seed = study.seeds[0]
    folder.capacity_cells.mkdir(parents=True, exist_ok=True)
    workload = synthesize(reference, load_rps, seed, folder.capacity_workloads)
    cell = cell_of(reference, REFERENCE_ROUTER, reference.guards[0], REFERENCE_CLIENT, workload, load_rps, seed)
    cell_folder = folder.capacity_cells / cell.cell_id
    if not is_finished(cell, cell_folder):
        with processes.lent() as process:
            process.run(cell, cell_folder)
    success = cohort_success(cell_folder / "attempts.parquet", cell_folder / "cell.json", study.slo.model_dump())
    return cell, success


def _write(path: Path, capacity: Capacity, probes: Sequence[dict[str, Any]]) -> None:
    found = {"router": REFERENCE_ROUTER.name, "client": REFERENCE_CLIENT.name}
    content = asdict(capacity) | found | {"probes": sorted(probes, key=lambda probe: float(probe["load_rps"]))}
    write_aside(path, json.dumps(content, indent=1))
