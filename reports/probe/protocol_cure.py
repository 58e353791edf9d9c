"""The cheapest guard set that survives the wanted burst, a router at a time: successive halving, where cheaper wins ties.

No guard set may be ruled out by its luck: in a round, sets whose record does not speak against the wanted survival (the upper end
of Wilson's interval reaches it) are alike, and the cheaper half goes on to twice the seeds. Where none of those that got all the
seeds reaches it, the ones set aside that still may get all of theirs too, cheapest first. It does not judge what a cure costs.
"""

from dataclasses import dataclass
from functools import partial
from math import ceil

from reports.frontier import SURVIVES
from reports.probe.asks import CURE, Answer, Ask
from reports.probe.cells import cell, load_of, spike
from reports.probe.plan import ProbePlan
from reports.probe.protocol_frontier import judged, tries_beyond
from reports.probe.protocol_placebo import calm_runs, holds
from reports.probe.waiting import Known, both, heard, together
from reports.statistics import wilson

START_SEEDS = 3
LEAST_LEFT = 2
UP_TRIES = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A guard set: whether it carries the wanted load at all, and its runs under the wanted burst."""

    guard: str
    stable: bool
    runs: tuple[Answer, ...] = ()

    @property
    def count(self) -> tuple[int, int]:
        """(recovered, runs that say)."""
        said = [run.recovered for run in self.runs if run.recovered is not None]
        return sum(said), len(said)

    @property
    def reaches(self) -> bool:
        recovered, runs = self.count
        return runs > 0 and recovered >= SURVIVES * runs - 1e-9

    @property
    def may_reach(self) -> bool:
        recovered, runs = self.count
        return runs > 0 and (wilson(recovered, runs).high or 0.0) >= SURVIVES


@dataclass(frozen=True, slots=True)
class Halving:
    """All candidates, cheapest first, and the set recommended: the cheapest that reaches the wanted survival with all seeds."""

    candidates: tuple[Candidate, ...]
    recommended: Candidate | None


def search(plan: ProbePlan, known: Known) -> None:
    """Asks until every router's search is over, and for the normal days that costs are read from; raises `Waiting`."""
    together([partial(_with_costs, plan, known, router) for router in plan.routers])


def labels(plan: ProbePlan) -> list[str]:
    """The guard sets searched, cheapest first: nothing at all, then the plan's."""
    return list(dict.fromkeys((plan.guards[0], *plan.cures)))


def halving(plan: ProbePlan, known: Known, router: str) -> Halving:
    """The whole search of a router; raises `Waiting`."""
    load_rps, order = load_of(plan, plan.wanted_fraction), labels(plan)
    calm = together([partial(calm_runs, plan, known, (router, guard), load_rps, plan.band_seeds) for guard in order])
    found = {guard: Candidate(guard, holds(runs)) for guard, runs in zip(order, calm, strict=True)}
    alive = [guard for guard in order if found[guard].stable]
    seeds = START_SEEDS if len(alive) > LEAST_LEFT else plan.cure_seeds
    while alive:
        seeds = min(seeds, plan.cure_seeds)
        found |= _tried(plan, known, router, alive, seeds)
        if seeds == plan.cure_seeds:
            break
        alive, seeds = _better_half(alive, found), 2 * seeds
    for guard in order:
        if any(len(c.runs) == plan.cure_seeds and c.reaches for c in found.values()):
            break
        if len(found[guard].runs) < plan.cure_seeds and found[guard].may_reach:
            found |= _tried(plan, known, router, [guard], plan.cure_seeds)
    reached = [c for guard in order if len((c := found[guard]).runs) == plan.cure_seeds and c.reaches]
    return Halving(tuple(found[guard] for guard in order), reached[0] if reached else None)


def beyond(plan: ProbePlan, known: Known, router: str, chosen: Halving) -> tuple[tuple[float, Answer], ...]:
    """Tries of the recommended set that tell up to which size it survives; raises `Waiting`."""
    cure = chosen.recommended
    if cure is None:
        return ()
    guard, load_rps = cure.guard, load_of(plan, plan.wanted_fraction)

    def make(size: float, number: int) -> Ask:
        trigger = spike(plan, size, plan.lengths_s[0])
        return cell(plan, CURE, (router, guard), load_rps, number=number, trigger=trigger)

    return tries_beyond(plan, known, make, judged(cure.runs, plan.wanted_k), plan.cure_seeds, UP_TRIES)


def normal_days(plan: ProbePlan, known: Known, router: str, chosen: Halving) -> None:
    """As many placebo runs of the recommended set, and of nothing at all, as the plan has; raises `Waiting`."""
    guards = dict.fromkeys((plan.guards[0], *([chosen.recommended.guard] if chosen.recommended else [])))
    load_rps = load_of(plan, plan.wanted_fraction)
    together([partial(calm_runs, plan, known, (router, guard), load_rps, plan.placebo_seeds) for guard in guards])


def _with_costs(plan: ProbePlan, known: Known, router: str) -> None:
    chosen = halving(plan, known, router)
    both(partial(normal_days, plan, known, router, chosen), partial(beyond, plan, known, router, chosen))


def _tried(plan: ProbePlan, known: Known, router: str, guards: list[str], seeds: int) -> dict[str, Candidate]:
    load_rps, trigger = load_of(plan, plan.wanted_fraction), spike(plan, plan.wanted_k, plan.lengths_s[0])
    rows = [[cell(plan, CURE, (router, g), load_rps, number=i, trigger=trigger) for i in range(seeds)] for g in guards]
    runs = together([partial(heard, known, row) for row in rows])
    return {guard: Candidate(guard, True, tuple(answers)) for guard, answers in zip(guards, runs, strict=True)}


def _better_half(alive: list[str], found: dict[str, Candidate]) -> list[str]:
    """The half that goes on, cheapest first: those that may still reach it, then by recovered share; cheaper before dearer."""

    def rank(guard: str) -> tuple[bool, float]:
        recovered, runs = found[guard].count
        return (False, 0.0) if found[guard].may_reach else (True, -recovered / runs if runs else 0.0)

    kept = sorted(alive, key=rank)[: max(LEAST_LEFT, ceil(len(alive) / 2))]
    return [guard for guard in alive if guard in kept]
