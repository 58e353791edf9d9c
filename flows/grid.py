"""The grid of a study: which cells it has, which are already finished, and in what order to run the rest. It runs nothing."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flows.order import balanced_order
from flows.study import Client, GuardSet, NamedChoice, Pool, RouterChoice, Study
from flows.study_parts import DIRECT
from replay.cell import Cell, PoolSpec
from replay.code import code_hash
from replay.observation import ObservationRule


@dataclass(frozen=True, slots=True)
class PlannedWorkload:
    """One seed's workload file: path, content hash, number of requests, and the plan that all seeds share."""

    path: Path
    content_hash: str
    requests: int
    plan: dict[str, Any]


def cell_of(
    study: Study,
    router: NamedChoice,
    guards: GuardSet,
    client: Client,
    workload: PlannedWorkload,
    load_rps: float,
    seed: int,
    pool: PoolSpec | None = None,
    repeat: int = 0,
) -> Cell:
    """One cell of the study's grid; `pool` None: the study's first, simulated."""
    return Cell(
        router=router.named(),
        guards=tuple(guard.named() for guard in guards.guards),
        guard_label=guards.label,
        pool=pool or study.pools[0].spec(),
        client=client.rule(),
        session=study.session.rule(),
        workload=str(workload.path),
        workload_hash=workload.content_hash,
        workload_label=workload_label(study),
        plan=workload.plan,
        load_rps=load_rps,
        trigger=study.trigger.described(),
        observation=ObservationRule(**study.observation.model_dump()),
        max_tokens=workload.plan["max_tokens"],
        drain_s=study.phases.drain_s,
        seed=seed,
        repeat=repeat,
    )


def workload_label(study: Study) -> str:
    """How reports call what is sent: the trace's name and the arrival process."""
    choice = study.workload
    part = ", part of it" if choice.select else ""
    return f"{Path(choice.trace).stem}{part}, {arrival_words(choice.arrival)}"


def arrival_words(arrival: Mapping[str, Any]) -> str:
    """An arrival in a few words, such as `gamma cv 2` or `poisson + mmpp2, modulated by sine`."""
    if "process" in arrival:
        more = "".join(f" {k} {v}" for k, v in arrival.items() if k not in ("process", "share", "for_s", "modulate"))
        words = f"{arrival['process']}{more}"
    elif "superpose" in arrival:
        words = " + ".join(arrival_words(part) for part in arrival["superpose"])
    else:
        words = " then ".join(arrival_words(part) for part in arrival["concatenate"])
    shapes = arrival.get("modulate") or []
    named = [str(shape["shape"]) for shape in (shapes if isinstance(shapes, list) else [shapes])]
    return words + (f", modulated by {' and '.join(named)}" if named else "")


def grid(study: Study, workloads: Mapping[int, PlannedWorkload], load_rps: float) -> list[Cell]:
    """Every cell in virtual time: router × guard set × client × seed of each simulated pool, the same workload for all arms of
    one seed, and the twins of live pools' cells."""
    return [
        cell for pool in study.pools for cell in (twin_cells if pool.is_live else _simulated)(study, pool, workloads, load_rps)
    ]


def _simulated(study: Study, pool: Pool, workloads: Mapping[int, PlannedWorkload], load_rps: float) -> list[Cell]:
    return [cell_of(study, *arm, workloads[seed], load_rps, seed, pool.spec()) for arm in arms_of(study) for seed in study.seeds]


def arms_of(study: Study) -> list[tuple[RouterChoice, GuardSet, Client]]:
    return [(router, guards, client) for router in study.routers for guards in study.guards for client in study.client]


def live_cells(study: Study, spec: PoolSpec, workloads: Mapping[int, PlannedWorkload], load_rps: float) -> list[Cell]:
    """A live pool's cells in the order to run them: all arms of a seed's repeat, then the next, their order balanced over all."""
    arms = arms_of(study)
    blocks = [(repeat, seed) for repeat in range(study.repeats) for seed in study.seeds]
    orders = balanced_order(len(arms), len(blocks))
    return [
        cell_of(study, *arms[i], workloads[seed], load_rps, seed, spec, repeat)
        for (repeat, seed), order in zip(blocks, orders, strict=True)
        for i in order
    ]


def twin_cells(study: Study, pool: Pool, workloads: Mapping[int, PlannedWorkload], load_rps: float) -> list[Cell]:
    """A live pool's cells once more, in virtual time: those of our own router, and of senders that take turns. Empty where the
    pool has no twin. A repeat would come out the same, so there is none."""
    if not pool.has_twin:
        return []
    spec = pool.spec()
    spec = replace(spec, label=f"{spec.label}, simulated")
    cells = [
        cell_of(study, *arm, workloads[seed], load_rps, seed, spec)
        for arm in arms_of(study)
        if arm[0].gateway in (None, DIRECT)
        for seed in study.seeds
    ]
    return [replace(cell, router=replace(cell.router, gateway="", arm="")) for cell in cells]


def is_finished(cell: Cell, folder: Path) -> bool:
    """True where `folder` holds this very cell, whole: same id, same workload content, made by the present code."""
    try:
        found = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    key = (found.get("cell_id"), found.get("workload_hash"), found.get("code_hash"))
    names = ("attempts", "samples", "decisions")
    return key == (cell.cell_id, cell.workload_hash, code_hash()) and all(_is_whole(folder / f"{n}.parquet") for n in names)


def _is_whole(path: Path) -> bool:
    """True for a Parquet file with its end: a lost or cut one means that its cell must run again."""
    try:
        with path.open("rb") as file:
            file.seek(-4, 2)
            return file.read() == b"PAR1"
    except OSError:
        return False


def remaining(cells: Sequence[Cell], cells_folder: Path) -> list[Cell]:
    """The cells still to run; whatever else lies in the folder (half-written, stale, no cell of this grid) is removed."""
    missing = [cell for cell in cells if not is_finished(cell, cells_folder / cell.cell_id)]
    finished = {cell.cell_id for cell in cells} - {cell.cell_id for cell in missing}
    for entry in cells_folder.iterdir() if cells_folder.is_dir() else ():
        if entry.name not in finished:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    return missing


def finished_names(cells_folder: Path) -> set[str]:
    """Names of the folders that hold a whole cell, of whatever code and plan."""
    return {path.parent.name for path in cells_folder.glob("*/cell.json")}


def work_of(cell: Cell, requests: int) -> float:
    """A guess of a cell's cost, in requests: clients that never give up and never cancel make the most attempts."""
    patience = 4.0 if cell.client.max_attempts is None else min(4.0, 1 + 0.3 * (cell.client.max_attempts - 1))
    return requests * patience * (1.0 if cell.client.cancel else 1.5) * (1.0 if cell.client.budget is None else 0.5)


def batches(cells: Sequence[Cell], requests: Mapping[str, int], processes: int) -> list[list[Cell]]:
    """Cells in tasks of a sensible size, largest first; `requests` counts by workload hash.

    A batch takes the next cells until it holds 1/(6·processes) of all the work, at most 16 cells: large cells travel alone
    and first, small ones together and last, so that no process is left with a large one at the end.
    """
    work = {cell.cell_id: work_of(cell, requests[cell.workload_hash]) for cell in cells}
    share = sum(work.values()) / (6 * processes)
    made: list[list[Cell]] = []
    held = 0.0
    for cell in sorted(cells, key=lambda cell: (-work[cell.cell_id], cell.cell_id)):
        if not made or held >= share or len(made[-1]) >= 16:
            made.append([])
            held = 0.0
        made[-1].append(cell)
        held += work[cell.cell_id]
    return made
