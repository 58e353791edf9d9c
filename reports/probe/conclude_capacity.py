"""What the capacity runs say: each arm's own C*. It asks nothing."""

from functools import partial

from reports.probe.asks import CAPACITY
from reports.probe.cells import arms_of
from reports.probe.findings import Arm, OwnCapacity
from reports.probe.plan import ProbePlan
from reports.probe.protocol_capacity import Results, bracket, cold_tries, warm_tries
from reports.probe.waiting import Known, so_far
from reports.protocol import TARGET_SUCCESS, capacity_estimate


def capacities(plan: ProbePlan, known: Known) -> tuple[OwnCapacity, ...]:
    """A row an arm whose warm search is complete; nothing where the phase was not asked for."""
    if CAPACITY not in plan.phases:
        return ()
    return tuple(row for arm in arms_of(plan) if (row := _capacity(plan, known, arm)) is not None)


def _capacity(plan: ProbePlan, known: Known, arm: Arm) -> OwnCapacity | None:
    warm = so_far(partial(warm_tries, plan, known, arm))
    if warm is None:
        return None
    low, high = bracket(warm)
    warm_rps = _estimate(warm)
    cold = so_far(partial(cold_tries, plan, known, arm)) or []
    cells = [a.cell_id for ask, a in known.items() if ask.phase == CAPACITY and (ask.router, ask.guard) == arm]
    return OwnCapacity(arm, warm_rps, low, high, _cold(cold, warm_rps), tuple(sorted(cells)))


def _cold(cold: Results, warm_rps: float | None) -> float | None:
    if cold and cold[0][1] >= TARGET_SUCCESS:
        return warm_rps
    return _estimate(cold)


def _estimate(results: Results) -> float | None:
    low, high = bracket(results)
    return None if low is None or high is None else capacity_estimate(results)[0]
