"""Which cells a probe asks for next: a pure function of the plan and the answers so far. It runs nothing and concludes nothing.

Each phase is a search (`reports.probe.waiting`) that stops at the first answers it lacks; a round is what all searches wait for.
What a search needs from another (placebo runs before judged ones, a frontier before a cause) it asks for itself, so a plan with
one phase alone works. Whatever part of a round is answered, in whatever order, a finished probe has the same cells.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from reports.probe import (
    protocol_attribution,
    protocol_capacity,
    protocol_cure,
    protocol_escape,
    protocol_frontier,
    protocol_placebo,
    protocol_pulse,
    protocol_staircase,
)
from reports.probe.asks import (
    ATTRIBUTION,
    CAPACITY,
    CURE,
    ESCAPE,
    FRONTIER,
    PHASES,
    PLACEBO,
    PULSE,
    STAIRCASE,
    Answer,
    Ask,
)
from reports.probe.plan import ProbePlan
from reports.probe.waiting import Known, Waiting, together

SEARCHES: Mapping[str, Callable[[ProbePlan, Known], None]] = {
    CAPACITY: protocol_capacity.search,
    PLACEBO: protocol_placebo.search,
    PULSE: protocol_pulse.search,
    FRONTIER: protocol_frontier.search,
    STAIRCASE: protocol_staircase.search,
    ESCAPE: protocol_escape.search,
    ATTRIBUTION: protocol_attribution.search,
    CURE: protocol_cure.search,
}


def next_asks(plan: ProbePlan, answers: Iterable[Answer]) -> list[Ask]:
    """The next round, sorted, each cell once and none that is answered; empty when the probe is complete.

    Raises ValueError for a phase that does not exist.
    """
    if unknown := [phase for phase in plan.phases if phase not in SEARCHES]:
        raise ValueError(f"probe.phases: {unknown[0]!r} is no phase; allowed: {', '.join(PHASES)}")
    known = {answer.ask: answer for answer in answers}
    try:
        together([partial(SEARCHES[phase], plan, known) for phase in PHASES if phase in plan.phases])
    except Waiting as waiting:
        return sorted(set(waiting.asks))
    return []
