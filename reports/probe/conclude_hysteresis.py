"""What the staircases say: success on the way up and down the same loads, and the area between. It asks nothing."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import fsum

from reports.probe.asks import STAIRCASE
from reports.probe.cells import arms_of, load_of
from reports.probe.findings import Arm, Hysteresis
from reports.probe.plan import ProbePlan
from reports.probe.protocol_staircase import staircases, up_and_down
from reports.probe.waiting import Known, so_far
from reports.statistics import t_interval

Steps = Sequence[tuple[float | None, float | None]]


def hysteresis(plan: ProbePlan, known: Known) -> tuple[Hysteresis, ...]:
    """A row an arm whose staircases are complete."""
    if STAIRCASE not in plan.phases:
        return ()
    return tuple(row for arm in arms_of(plan) if (row := _row(plan, known, arm)) is not None)


def area(loads_rps: Sequence[float], steps: Steps) -> float | None:
    """∫(success up − success down) dλ / λ range by trapezoids over the loads where both are known; None under two of them."""
    seen = [(x, up - down) for x, (up, down) in zip(loads_rps, steps, strict=True) if up is not None and down is not None]
    if len(seen) < 2 or seen[-1][0] == seen[0][0]:
        return None
    pairs = pairwise(seen)
    return fsum((b - a) * (y + z) / 2 for (a, y), (b, z) in pairs) / (seen[-1][0] - seen[0][0])


def _row(plan: ProbePlan, known: Known, arm: Arm) -> Hysteresis | None:
    answers = so_far(partial(staircases, plan, known, arm))
    runs = [answer for answer in answers or () if answer.verdict != "void" and len(answer.levels) == 2 * len(plan.steps) - 1]
    if not runs:
        return None
    loads = tuple(factor * load_of(plan, 1.0) for factor in sorted(plan.steps))
    steps = [up_and_down(run) for run in runs]
    areas = [found for run in steps if (found := area(loads, run)) is not None]
    mean = t_interval(areas)
    return Hysteresis(
        arm,
        loads,
        tuple(_mean([run[i][0] for run in steps]) for i in range(len(loads))),
        tuple(_mean([run[i][1] for run in steps]) for i in range(len(loads))),
        mean.mean,
        tuple(run.cell_id for run in runs),
        area_low=mean.low,
        area_high=mean.high,
        seeds=len(runs),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    seen = [value for value in values if value is not None]
    return fsum(seen) / len(seen) if seen else None
