"""P0: an arm's own C*, warm and cold. It does not know triggers.

Warm: bracket and bisect (`reports.protocol.capacity_next`) from C_ref on. Cold can hardly exceed it: it starts at the largest
load that passed warm and goes down by `DOWN` until a load passes.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

from reports.probe.asks import CAPACITY
from reports.probe.cells import arms_of, cell
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.waiting import Known, heard, together
from reports.protocol import GROWTH, TARGET_SUCCESS, capacity_next

Results = list[tuple[float, float]]

TOLERANCE = GROWTH ** (1 / 8) - 1 + 1e-3  # three halvings of the first step (5%), and what six digits round away
REACH = 4.0  # further than this factor from C_ref nobody looks
DOWN, COLD_TRIES = 0.85, 5
SPARE_SEEDS = 2


def search(plan: ProbePlan, known: Known) -> None:
    """Asks until the capacity of every arm is known; raises `Waiting`."""
    together([partial(cold_tries, plan, known, arm) for arm in arms_of(plan)])


def warm_tries(plan: ProbePlan, known: Known, arm: Arm) -> Results:
    """(load_rps, success) of the warm search."""
    results: Results = []
    while loads := _next_load(tuple(results), plan.c_ref_rps):
        if not plan.c_ref_rps / REACH <= loads[0] <= plan.c_ref_rps * REACH:
            break
        success = _success(plan, known, arm, loads[0], cold=False)
        if success is None:
            break
        results.append((loads[0], success))
    return results


@lru_cache(maxsize=4096)
def _next_load(results: tuple[tuple[float, float], ...], start_rps: float) -> list[float]:
    """Kept, because every search that asks whether a load is carried goes through it again."""
    return capacity_next(results, start_rps, at_once=1, tolerance=TOLERANCE)


def cold_tries(plan: ProbePlan, known: Known, arm: Arm) -> Results:
    """(load_rps, success) of the cold search, loads falling; empty where no load passed warm."""
    load_rps, _ = bracket(warm_tries(plan, known, arm))
    results: Results = []
    while load_rps is not None and len(results) < COLD_TRIES:
        success = _success(plan, known, arm, load_rps, cold=True)
        if success is None:
            break
        results.append((load_rps, success))
        load_rps = None if success >= TARGET_SUCCESS else float(f"{load_rps * DOWN:.6g}")
    return results


def bracket(results: Sequence[tuple[float, float]]) -> tuple[float | None, float | None]:
    """(largest load that passed below every one that failed, smallest that failed)."""
    high = min((load for load, success in results if success < TARGET_SUCCESS), default=None)
    return max((x for x, success in results if success >= TARGET_SUCCESS and (high is None or x < high)), default=None), high


def _success(plan: ProbePlan, known: Known, arm: Arm, load_rps: float, *, cold: bool) -> float | None:
    """The success share at a load, of the first seed whose run is not void; None where all are."""
    for number in range(1 + SPARE_SEEDS):
        [answer] = heard(known, [replace(cell(plan, CAPACITY, arm, load_rps, number=number), cold=cold)])
        if answer.verdict != "void" and answer.success is not None:
            return answer.success
    return None
