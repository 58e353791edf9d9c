"""What the tries say: how large a burst each arm survives at each load, and after which it stays down. It asks nothing."""

import json
from collections import Counter
from functools import partial

from reports.frontier import probability, survived
from reports.probe.asks import ATTRIBUTION, CURE, ESCAPE, FRONTIER, PULSE, Answer
from reports.probe.cells import arms_of, load_of
from reports.probe.findings import Arm, FrontierPoint
from reports.probe.plan import ProbePlan
from reports.probe.protocol_frontier import Row, Tries, rows
from reports.probe.protocol_placebo import carries
from reports.probe.stuck import counted
from reports.probe.waiting import Known, so_far

DOWN = 0.8  # the least share of runs that stay down at a deadly size
ENOUGH, ENOUGH_LARGER = 5, 3  # runs at one size, at it and larger ones


def frontier(plan: ProbePlan, known: Known) -> tuple[FrontierPoint, ...]:
    """A point an arm, load and length. A search that was broken off counts the tries it has."""
    if not {FRONTIER, ESCAPE, ATTRIBUTION} & set(plan.phases):
        return ()
    found = []
    for arm in arms_of(plan):
        for length_s in plan.lengths_s:
            complete = so_far(partial(rows, plan, known, arm, length_s))
            for fraction in sorted(plan.fractions):
                stable = so_far(partial(carries, plan, known, arm, load_of(plan, fraction)))
                if stable is not None:
                    row = _row_so_far(plan, known, arm, fraction, length_s) if complete is None else complete.get(fraction)
                    found.append(_point(plan, known, arm, fraction, length_s, row if stable else None))
    return tuple(found)


def _point(plan: ProbePlan, known: Known, arm: Arm, fraction: float, length_s: float, row: Row | None) -> FrontierPoint:
    load_rps = load_of(plan, fraction)
    if row is None:
        return FrontierPoint(arm, fraction, load_rps, length_s, False, None, None, None, (), (), ())
    tries = counted(row)
    size = survived(tries, plan.sizes)
    values = [float(k) for k in plan.sizes.values()]
    recovery = tuple((k, *p) for k, p in zip(values, probability(tries, values, plan.sizes), strict=True))
    runs = burst_runs(plan, known, arm, load_rps, length_s)
    deadly_k, down, of, larger = deadly([(k, answer.recovered) for k, answer in runs if answer.recovered is not None])
    cells = tuple(sorted({answer.cell_id for answer in (*row.answers, *(answer for _, answer in runs))}))
    return FrontierPoint(
        arm, fraction, load_rps, length_s, True, size.k, size.low, size.high, row.tries, recovery, cells,
        leans_on=row.leans_on, deadly_k=deadly_k, deadly_down=down, deadly_runs=of, deadly_larger=larger,
        beyond=0 if size.k is not None else 1 if recovery[len(recovery) // 2][2] > 0.5 else -1,
    )  # fmt: skip


def burst_runs(plan: ProbePlan, known: Known, arm: Arm, load_rps: float, length_s: float) -> list[tuple[float, Answer]]:
    """(k, run) of the arm as it is under the plan's burst, of all phases, k ascending; a seed at one k counts once."""
    shape = _without_size(plan.spike)
    runs: dict[tuple[float, int], Answer] = {}
    for ask in sorted(known):
        if (ask.router, ask.guard) != arm or ask.variant or ask.load_rps != load_rps or ask.pieces:
            continue
        trigger = json.loads(ask.trigger)
        if (
            ask.phase in (PULSE, FRONTIER, ATTRIBUTION, CURE)
            and trigger["d_s"] == length_s
            and _without_size(ask.trigger) == shape
        ):
            runs.setdefault((float(trigger["k"]), ask.seed), known[ask])
    return [(k, answer) for (k, _), answer in sorted(runs.items(), key=lambda item: item[0])]


def deadly(tries: list[tuple[float, bool]]) -> tuple[float | None, int, int, bool]:
    """(k, runs down, runs, larger ones counted too) of the smallest deadly burst: alone where it was tried often enough."""
    at, down_at = Counter(k for k, _ in tries), Counter(k for k, recovered in tries if not recovered)
    for k in sorted(at):
        if at[k] >= ENOUGH and down_at[k] >= DOWN * at[k] - 1e-9:
            return k, down_at[k], at[k], False
    for k in sorted(down_at):
        down, of = sum(n for x, n in down_at.items() if x >= k), sum(n for x, n in at.items() if x >= k)
        if of >= ENOUGH_LARGER and down >= DOWN * of - 1e-9:
            return k, down, of, True
    return None, 0, 0, False


def _row_so_far(plan: ProbePlan, known: Known, arm: Arm, fraction: float, length_s: float) -> Row:
    """The tries of a search that was broken off."""
    load_rps = load_of(plan, fraction)
    runs = [(k, a) for k, a in burst_runs(plan, known, arm, load_rps, length_s) if a.ask.phase == FRONTIER]
    tries: Tries = tuple((k, a.recovered) for k, a in runs if a.recovered is not None)
    return Row(tuple(a for _, a in runs), tries)


def _without_size(trigger: str) -> str:
    return json.dumps({key: value for key, value in json.loads(trigger).items() if key not in ("k", "d_s")}, sort_keys=True)
