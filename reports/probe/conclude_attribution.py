"""Why an arm stays down: what taking one loop away at a time restored, never a rule of thumb. It asks nothing.

A loop counts where the arm without it recovers in at least `RESTORED` of its runs, and more often than the arm as it is beyond
chance: Fisher's exact test, one-sided (only a better arm says anything), Holm over the loops taken away at that setting.
"""

from collections.abc import Sequence
from functools import partial

from reports.frontier import Survived, survived
from reports.probe.asks import ATTRIBUTION, Answer
from reports.probe.cells import arms_of
from reports.probe.findings import Arm, Attribution, Cause
from reports.probe.fisher import fisher_greater
from reports.probe.plan import ProbePlan
from reports.probe.protocol_attribution import RESTORED, Removal, Why, attributions, share
from reports.probe.protocol_frontier import judged
from reports.probe.waiting import Known, so_far
from reports.statistics import CONFIDENCE, holm

NOT_FOUND = "not found by removing any one loop"
NOTHING_TO_REMOVE = "not looked for: the arm has no loop that can be taken away"


def attribution(plan: ProbePlan, known: Known) -> tuple[tuple[Attribution, ...], tuple[Cause, ...]]:
    """(a row a loop, a row an arm and setting) of the arms whose search is complete."""
    if ATTRIBUTION not in plan.phases:
        return (), ()
    found = [(arm, why) for arm in arms_of(plan) for why in so_far(partial(attributions, plan, known, arm)) or ()]
    loops = [_loops(plan, arm, why) for arm, why in found]
    causes = [_cause(arm, why, rows) for (arm, why), rows in zip(found, loops, strict=True)]
    return tuple(row for rows in loops for row in rows), tuple(causes)


def recovered(runs: Sequence[Answer]) -> tuple[int, int]:
    """(recovered, runs that say)."""
    said = [run.recovered for run in runs if run.recovered is not None]
    return sum(said), len(said)


def _loops(plan: ProbePlan, arm: Arm, why: Why) -> list[Attribution]:
    tested = [removal for removal in why.removals if recovered(removal.runs)[1]]
    without = recovered(why.baseline)
    corrected = holm([fisher_greater(*recovered(removal.runs), *without) for removal in tested])
    p_of = {removal.variant.name: p for removal, p in zip(tested, corrected, strict=True)}
    return [_loop(plan, arm, why, removal, p_of.get(removal.variant.name, 1.0)) for removal in why.removals]


def _loop(plan: ProbePlan, arm: Arm, why: Why, removal: Removal, p: float) -> Attribution:
    back, runs = recovered(removal.runs)
    restores = p < 1 - CONFIDENCE and (share(removal.runs) or 0.0) >= RESTORED
    up_to = _up_to(plan, why, removal) if restores else Survived(None, None, None, 0)
    before, of = recovered(why.baseline)
    cells = (*why.baseline, *removal.runs, *(answer for _, answer in removal.beyond))
    return Attribution(
        arm,
        why.setting.fraction,
        cells[0].ask.trigger,
        removal.variant.name,
        removal.variant.takes_away,
        removal.variant.words,
        before,
        of,
        back,
        runs,
        p,
        restores,
        up_to.k,
        tuple(answer.cell_id for answer in cells),
        up_to_low=up_to.low,
        up_to_high=up_to.high,
        stable=removal.stable,
    )


def _up_to(plan: ProbePlan, why: Why, removal: Removal) -> Survived:
    tries = judged(removal.runs, why.setting.k)
    tries += [(k, answer.recovered) for k, answer in removal.beyond if answer.recovered is not None]
    return survived(tries, plan.sizes)


def _cause(arm: Arm, why: Why, loops: Sequence[Attribution]) -> Cause:
    back, runs = recovered(why.baseline)
    found = sorted((row for row in loops if row.restores), key=lambda row: (-row.recovered_with / row.runs_with, row.p))
    causes = tuple(dict.fromkeys(row.cause for row in found))
    return Cause(
        arm,
        why.setting.fraction,
        why.setting.load_rps,
        why.setting.length_s,
        why.setting.k,
        runs - back,
        runs,
        causes,
        tuple(row.words for row in found),
        listed(causes) if causes else NOT_FOUND if loops else NOTHING_TO_REMOVE,
        tuple(dict.fromkeys(cell for row in loops for cell in row.cells)) or tuple(run.cell_id for run in why.baseline),
    )


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
