"""The cells of a plan: their arms, loads, triggers and seeds. It knows neither answers nor what is asked when."""

import json
from collections.abc import Sequence
from functools import lru_cache

from reports.probe.asks import Ask, Piece
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan


def arms_of(plan: ProbePlan) -> list[Arm]:
    return [(router, guard) for guard in plan.guards for router in plan.routers]


def load_of(plan: ProbePlan, fraction: float) -> float:
    """`fraction` of C_ref in rps, at six significant digits (it becomes part of a cell's identity)."""
    return float(f"{fraction * plan.c_ref_rps:.6g}")


def no_trigger(plan: ProbePlan) -> str:
    """The placebo of the plan's first burst: the same phases undisturbed."""
    return sized('{"kind": "placebo"}', 1.0, plan.lengths_s[0])


def spike(plan: ProbePlan, k: float, length_s: float) -> str:
    """The plan's spike at size `k`, for `length_s`."""
    return sized(plan.spike, k, length_s)


@lru_cache(maxsize=4096)
def sized(trigger: str, k: float, length_s: float) -> str:
    """Canonical JSON of a trigger with its size and length replaced. Kept, because a search begun again asks for the same."""
    return json.dumps({**json.loads(trigger), "k": k, "d_s": length_s}, sort_keys=True)


def cell(plan: ProbePlan, phase: str, arm: Arm, load_rps: float, *, number: int = 0, trigger: str = "", variant: str = "") -> Ask:
    """The `number`th cell of a row (0, 1, …): all arms and sizes use the same seeds in the same order, and so are paired."""
    return Ask(phase, *arm, variant, load_rps, trigger or no_trigger(plan), (), plan.first_seed + number)


def course_cell(plan: ProbePlan, phase: str, arm: Arm, load_rps: float, pieces: Sequence[Piece], number: int = 0) -> Ask:
    """A cell whose load goes through `pieces`, without a trigger."""
    return Ask(phase, *arm, "", load_rps, no_trigger(plan), tuple(pieces), plan.first_seed + number)
