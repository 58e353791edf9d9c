"""What the pulses say: runs recovered of all by trigger, and when. It asks nothing."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from reports.probe.asks import PULSE, Answer
from reports.probe.cells import arms_of, load_of
from reports.probe.findings import Arm, PulseRow
from reports.probe.plan import ProbePlan
from reports.probe.waiting import Known
from reports.statistics import wilson


def pulses(plan: ProbePlan, known: Known) -> tuple[PulseRow, ...]:
    """A row an arm, load and trigger, in the plan's order."""
    fractions = {load_of(plan, fraction): fraction for fraction in plan.fractions}
    rows: dict[tuple[Arm, float, str], list[Answer]] = defaultdict(list)
    for ask in sorted(known):
        if ask.phase == PULSE and ask.load_rps in fractions:
            rows[(ask.router, ask.guard), fractions[ask.load_rps], ask.trigger].append(known[ask])
    order = {arm: place for place, arm in enumerate(arms_of(plan))}
    keys = sorted((key for key in rows if key[0] in order), key=lambda key: (order[key[0]], key[1], key[2]))
    return tuple(_row(*key, rows[key]) for key in keys)


def _row(arm: Arm, fraction: float, trigger: str, runs: Sequence[Answer]) -> PulseRow:
    judged = [run for run in runs if run.recovered is not None]
    back = sum(run.recovered is True for run in judged)
    share = wilson(back, len(judged)) if judged else None
    lost = [run.lost_goodput for run in judged if run.lost_goodput is not None]
    return PulseRow(
        arm,
        fraction,
        trigger,
        back,
        len(judged),
        0.0 if share is None or share.low is None else share.low,
        1.0 if share is None or share.high is None else share.high,
        tuple(sorted(time for run in judged if (time := _time(run)) is not None)),
        tuple(sorted(Counter(run.verdict for run in runs).items())),
        sum(lost) / len(lost) if lost else None,
        tuple(run.cell_id for run in runs),
    )


def _time(run: Answer) -> tuple[float, bool] | None:
    """(seconds, recovered) of a run: censored where it did not recover."""
    at_s = run.recovery_s if run.recovered else run.censored_s
    return None if at_s is None else (at_s, run.recovered is True)
