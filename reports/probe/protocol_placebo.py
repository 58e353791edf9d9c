"""P1: runs without a trigger, and whether an arm carries a load at all. It does not know what the runs' bands are.

An arm that does not carry a load (it lies beyond what its own capacity search says, or its first placebo runs miss the SLO beyond
chance) is unstable there: neither more placebo runs nor any other cell is asked for.
"""

from collections.abc import Sequence
from functools import partial

from reports.probe.asks import CAPACITY, PLACEBO, Answer
from reports.probe.cells import arms_of, cell, load_of
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol_capacity import bracket, warm_tries
from reports.probe.waiting import Known, heard, together
from reports.verdict import holds_slo

FIRST_LOOK = 3  # placebo runs after which an arm may be called unstable
BEYOND = 1.15  # a load this far above the lowest that failed is not tried: nearer, one run's bad luck would decide


def search(plan: ProbePlan, known: Known) -> None:
    """Asks for the placebo runs of every arm and load; raises `Waiting`."""
    together([partial(carries, plan, known, arm, load_of(plan, f)) for arm in arms_of(plan) for f in plan.fractions])


def carries(plan: ProbePlan, known: Known, arm: Arm, load_rps: float) -> bool:
    """Whether the arm is stable at the load. Complete only when all its placebo runs there are."""
    if CAPACITY in plan.phases and beyond_capacity(plan, known, arm, load_rps):
        return False
    return holds(calm_runs(plan, known, arm, load_rps, plan.placebo_seeds))


def beyond_capacity(plan: ProbePlan, known: Known, arm: Arm, load_rps: float) -> bool:
    _, failed_rps = bracket(warm_tries(plan, known, arm))
    return failed_rps is not None and load_rps > BEYOND * failed_rps


def calm_runs(plan: ProbePlan, known: Known, arm: Arm, load_rps: float, seeds: int, variant: str = "") -> list[Answer]:
    """`seeds` placebo runs, or the first few where they show that the load is not carried."""
    asks = [cell(plan, PLACEBO, arm, load_rps, number=i, variant=variant) for i in range(seeds)]
    first = heard(known, asks[:FIRST_LOOK])
    return heard(known, asks) if holds(first) else first


def holds(runs: Sequence[Answer]) -> bool:
    """Whether placebo runs meet the SLO: their share over all roots is not below its target beyond chance. False without any."""
    seen = [(run.success, run.roots) for run in runs if run.verdict != "void" and run.success is not None and run.roots]
    return bool(seen) and holds_slo(round(sum(s * n for s, n in seen)), sum(n for _, n in seen))
