"""Runs one cell in virtual time and leaves its folder, whole or not at all. It computes no statistics."""

import json
import os
import shutil
import time
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from replay.cell import Cell
from replay.code import code_hash
from replay.recorder import Recorder
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from workloads.storage import read_workload
from workloads.triggers import trigger_words
from workloads.workload import Workload


class NotConserved(RuntimeError):
    """Requests were lost or counted twice: a fault of ours, never of the input."""


def run_cell(cell: Cell, folder: Path) -> None:
    """Replay the cell's workload and write `folder` (aside, then renamed): attempts, samples, decisions, cell.json.

    Raises ValueError for a cell that cannot run, NotConserved when the books do not balance.
    """
    began, cpu_began = time.time(), time.process_time()
    workload = _workload(cell.workload)
    profile = _profile(cell)
    recorder = Recorder()
    run = VirtualRun(cell, workload, profile, recorder)
    ended_s = run.run()
    counts = run.client.counts
    check_conservation(counts, recorder)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    recorder.write(aside)
    facts = describe_cell(cell, workload, profile.name)
    facts |= {
        "driver": "virtual",
        "counts": counts,
        "conserved": True,
        "ended_s": ended_s,
        "events": run.events_done,
        "attempts": len(recorder.attempt_log),
        "steps": sum(e.counters.steps for e in run.engines),
        "code_hash": code_hash(),
        "cpu_s": time.process_time() - cpu_began,
        "wall_s": time.time() - began,
    }
    (aside / "cell.json").write_text(json.dumps(facts, indent=1))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def check_conservation(counts: dict[str, int], recorder: Recorder) -> None:
    """Scheduled = ok + failed + abandoned + censored, and the rows say the same: nothing lost, nothing twice."""
    import numpy as np
    import pyarrow.compute as pc

    parts = counts["ok"] + counts["failed"] + counts["abandoned"] + counts["censored"]
    rows = recorder.attempt_log.table()
    ids, outcomes = rows["request_id"].to_numpy(), rows["outcome"]
    answered, censored = (ids[pc.equal(outcomes, outcome).to_numpy()] for outcome in ("ok", "censored"))
    n_ok, n_censored, seen = len(np.unique(answered)), len(np.unique(censored)), len(np.unique(ids))
    problems = []
    if counts["scheduled"] != parts:
        problems.append(f"scheduled {counts['scheduled']} is not the sum of its parts {parts}")
    if counts["planned"] != counts["scheduled"] + counts["not_due"]:
        problems.append(f"planned {counts['planned']} is not scheduled {counts['scheduled']} + not due {counts['not_due']}")
    if len(answered) != counts["ok"] or n_ok != len(answered):
        problems.append(f"{len(answered)} ok rows for {counts['ok']} ok requests")
    if n_censored != counts["censored"]:
        problems.append(f"censored rows of {n_censored} requests for {counts['censored']} censored ones")
    if seen != counts["scheduled"]:
        problems.append(f"rows of {seen} requests for {counts['scheduled']} scheduled ones")
    if problems:
        raise NotConserved("; ".join(problems))


def describe_cell(cell: Cell, workload: Workload, engine: str) -> dict[str, Any]:
    """The part of cell.json that is known before the run; `engine` is what serves, in words."""
    loads = {p.name: p.load_rps for p in workload.phases}
    return {
        "cell_id": cell.cell_id,
        "arm_id": cell.arm_id,
        "router": cell.router.label,
        "guard": cell.guard_label,
        "client": cell.client.name,
        "engine": engine,
        "pool": cell.pool.label,
        "workload": cell.workload_label,
        "load_rps": cell.load_rps,
        "trigger": cell.trigger,
        "trigger_words": trigger_words(cell.trigger),
        "seed": cell.seed,
        "replicas": cell.pool.replicas,
        "phases": [
            {"name": name, "start_s": start, "end_s": end, "load_rps": loads[name]}
            for name, start, end in workload.phase_bounds()
        ],
        "drain_s": cell.drain_s,
        "workload_hash": cell.workload_hash,
        "spec": asdict(cell),
    }


def _profile(cell: Cell) -> EngineProfile:
    """The pool's engine profile; ValueError when it is not the one the cell was planned with."""
    profile = EngineProfile.load(cell.pool.profile)
    if cell.pool.profile_hash not in ("", profile.content_hash):
        raise ValueError(f"pool.profile {cell.pool.profile}: its content has changed since the cell was planned")
    return profile.with_changes(cell.pool.changes)


@lru_cache(maxsize=2)
def _workload(path: str) -> Workload:
    return read_workload(Path(path))
