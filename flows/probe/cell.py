"""From a study and an ask to the cell and its workload, made in memory. It runs nothing and judges nothing.

Equal (seed, load, trigger, pieces) give equal arrivals in every arm. A cell's identity holds what it is judged by, too.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from flows.grid import PlannedWorkload, cell_of
from flows.probe.variants import changed, one_arm, prefix_reuse
from flows.study import Study
from flows.workload_plan import plan_facts, plan_of
from replay.cell import Cell
from reports.probe.asks import CAPACITY, Ask
from workloads.mixing import content_ids
from workloads.pieces import in_pieces
from workloads.plan import Plan
from workloads.request_table import RequestTable
from workloads.synthesis import synthesize
from workloads.trace_table import Trace
from workloads.workload import Workload

CAPACITY_REQUESTS = 1000  # a share of 95% is then known to about ±1.4 points
TAIL_S = 10.0  # a measured stretch is followed by as much load, so that its last requests meet a loaded pool
_ALONE = 1 << 30


@dataclass(frozen=True, slots=True)
class Timing:
    """When a cell is looked at, in seconds from its start. `levels`: the last two thirds of its pieces."""

    steady: tuple[float, float]
    trigger_end_s: float
    horizon_s: float
    levels: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """All that one ask needs to be run."""

    ask: Ask
    study: Study
    cell: Cell
    workload: Workload
    timing: Timing
    cell_id: str

    @property
    def judged(self) -> bool:
        """Whether something disturbs it from which it is to recover."""
        return self.cell.trigger["kind"] != "placebo" and not self.ask.pieces


@dataclass(frozen=True, slots=True)
class Identified:
    """An ask as a cell, before its workload is made: enough to know whether it has been run."""

    ask: Ask
    study: Study
    plan: Plan
    cell: Cell

    @property
    def cell_id(self) -> str:
        """The phase, the arm's hash and the seed: one cell an ask."""
        return f"{self.ask.phase}-{self.cell.cell_id}"


def identified(study: Study, trace: Trace, ask: Ask) -> Identified:
    """The cell of an ask. ValueError for an arm, variant or trigger that does not exist."""
    arm = changed(one_arm(study, ask.router, ask.guard), ask.variant)
    plan = _plan(arm, ask)
    made = cell_of(arm, arm.routers[0], arm.guards[0], arm.client[0], _facts(arm, trace, plan, ask), ask.load_rps, ask.seed)
    made = replace(made, trigger=plan.trigger, record_decisions=False, workload_hash="", workload="")
    return Identified(ask, arm, plan, made)


def planned(known: Identified, trace: Trace) -> Planned:
    """The cell with its workload."""
    workload = _workload(trace, known.plan, known.ask)
    return Planned(known.ask, known.study, known.cell, workload, _timing(workload), known.cell_id)


def _plan(study: Study, ask: Ask) -> Plan:
    """The study's phases around the ask's trigger; a placebo is looked at for `probe.calm_s`, any other run at the longest."""
    trigger = json.loads(ask.trigger)
    plan = replace(plan_of(study), trigger=trigger, events=())
    if ask.phase == CAPACITY:
        steady_s = max(plan.steady_s, CAPACITY_REQUESTS / ask.load_rps)
        quiet = {"kind": "placebo", "d_s": TAIL_S}
        warmup_s = 0.0 if ask.cold else plan.warmup_s
        return replace(plan, trigger=quiet, steady_s=steady_s, recovery_s=0.0, warmup_s=warmup_s)
    if plan.trigger["kind"] == "placebo":
        return replace(plan, recovery_s=study.probe.calm_s)
    return replace(plan, recovery_s=study.probe.longest_s)


def _workload(trace: Trace, plan: Plan, ask: Ask) -> Workload:
    if ask.pieces:
        made = in_pieces(trace, plan, ask.load_rps, ask.pieces, ask.seed)
    else:
        made = synthesize(trace, plan, ask.load_rps, ask.seed)
    return made if prefix_reuse(ask.variant) else replace(made, table=without_reuse(made.table))


def without_reuse(table: RequestTable) -> RequestTable:
    """The same requests at the same times, each prompt of its own content."""
    n = len(table)
    return replace(
        table,
        extends=np.zeros(n, dtype=bool),
        new_bounds=np.arange(n + 1),
        new_ids=content_ids(_ALONE, np.arange(n)),
        new_tokens=table.prompt_tokens,
    )


def _timing(workload: Workload) -> Timing:
    bounds = {name: (start_s, end_s) for name, start_s, end_s in workload.phase_bounds()}
    if "steady" in bounds:
        return Timing(bounds["steady"], bounds["trigger"][1], workload.horizon_s)
    pieces = [bound for name, bound in bounds.items() if name.startswith("piece")]
    levels = tuple((start_s + (end_s - start_s) / 3, end_s) for start_s, end_s in pieces)
    return Timing(levels[0], pieces[0][1], workload.horizon_s, levels)


def _facts(study: Study, trace: Trace, plan: Plan, ask: Ask) -> PlannedWorkload:
    """The plan as part of the cell's identity, with what the cell is judged by."""
    probe: Mapping[str, Any] = {
        "phase": ask.phase,
        "variant": ask.variant,
        "pieces": [list(piece) for piece in ask.pieces],
        "cold": ask.cold,
        "slo": study.slo.model_dump(),
    }
    return PlannedWorkload(Path(), "", 0, {**plan_facts(trace, study), **plan.to_json(), "probe": dict(probe)})
