"""What a probe found: a pure function of the plan and the answers. It asks nothing and knows no tables.

It reads the answers with the very searches that asked for them, so both agree on what was tried and why. A search that was broken
off is left out, except that a frontier and the pulses count the runs they have.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from reports.probe.asks import PLACEBO, Answer
from reports.probe.conclude_attribution import attribution
from reports.probe.conclude_capacity import capacities
from reports.probe.conclude_cure import cures
from reports.probe.conclude_escape import escapes
from reports.probe.conclude_frontier import frontier
from reports.probe.conclude_hysteresis import hysteresis
from reports.probe.conclude_pulse import pulses
from reports.probe.findings import Drain, FalseAlarms, Findings
from reports.probe.plan import ProbePlan
from reports.probe.protocol_placebo import holds
from reports.probe.waiting import Known
from reports.statistics import wilson

ENOUGH_SEEDS = 5  # placebo runs of an arm and load, so that four others make the bands that judge one


def findings(plan: ProbePlan, answers: Iterable[Answer]) -> Findings:
    """All that the answers say, in the plan's order whatever theirs."""
    given = {answer.ask: answer for answer in answers}
    known = {ask: given[ask] for ask in sorted(given)}
    loops, causes = attribution(plan, known)
    return Findings(
        plan.c_ref_rps,
        false_alarms(plan, known),
        capacities(plan, known),
        frontier(plan, known),
        pulses(plan, known),
        hysteresis(plan, known),
        escapes(plan, known),
        loops,
        cures(plan, known),
        dict(sorted(Counter(answer.verdict for answer in known.values()).items())),
        causes,
        _drains(known),
    )


def false_alarms(plan: ProbePlan, known: Known) -> FalseAlarms:
    """Of the placebo runs of arms that carry their load, with enough seeds for bands; (0, 1) where there are none."""
    rows: dict[tuple[str, str, str, float], list[Answer]] = defaultdict(list)
    for ask, answer in known.items():
        if ask.phase == PLACEBO:
            rows[ask.router, ask.guard, ask.variant, ask.load_rps].append(answer)
    enough = min(ENOUGH_SEEDS, plan.placebo_seeds)
    alarms = [a.false_alarm for runs in rows.values() if len(runs) >= enough and holds(runs) for a in runs]
    said = [alarm for alarm in alarms if alarm is not None]
    share = wilson(sum(said), len(said)) if said else None
    if share is None or share.low is None or share.high is None:
        return FalseAlarms(0, 0, 0.0, 1.0)
    return FalseAlarms(sum(said), len(said), share.low, share.high)


def _drains(known: Known) -> tuple[Drain, ...]:
    """One row over the runs that did not recover; none where all did."""
    down = [answer for answer in known.values() if answer.recovered is False]
    left = [answer for answer in down if answer.left_in_drain]
    deadlocks = sum(answer.verdict == "deadlock" for answer in down)
    return (Drain(len(down), len(left), deadlocks, tuple(answer.cell_id for answer in left)),) if down else ()
