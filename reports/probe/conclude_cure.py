"""The cheapest guard set that survives the wanted burst, and what each costs on a normal day. It asks nothing."""

from functools import partial

from reports.frontier import Survived, survived
from reports.probe.asks import CURE, PLACEBO, Answer
from reports.probe.cells import load_of
from reports.probe.findings import Cure
from reports.probe.plan import ProbePlan
from reports.probe.protocol_cure import Candidate, Halving, beyond, halving
from reports.probe.protocol_frontier import judged
from reports.probe.waiting import Known, so_far
from reports.statistics import Paired, paired_t, wilson


def cures(plan: ProbePlan, known: Known) -> tuple[Cure, ...]:
    """A row a router and guard set, cheapest first, of the routers whose search is complete."""
    if CURE not in plan.phases:
        return ()
    found = []
    for router in plan.routers:
        chosen = so_far(partial(halving, plan, known, router))
        if chosen is not None:
            found += [_row(plan, known, router, chosen, candidate) for candidate in chosen.candidates]
    return tuple(found)


def _row(plan: ProbePlan, known: Known, router: str, chosen: Halving, candidate: Candidate) -> Cure:
    back, runs = candidate.count
    share = wilson(back, runs) if runs else None
    base, calm = (_normal_days(plan, known, router, guard) for guard in (plan.guards[0], candidate.guard))
    goodput = _cost({s: a.calm_goodput_rps for s, a in base.items()}, {s: a.calm_goodput_rps for s, a in calm.items()})
    slower = _cost(_tails(calm), _tails(base))
    recommended = candidate is chosen.recommended
    up_to = _up_to(plan, known, router, chosen) if recommended else Survived(None, None, None, 0)
    return Cure(
        router,
        candidate.guard,
        back,
        runs,
        0.0 if share is None or share.low is None else share.low,
        1.0 if share is None or share.high is None else share.high,
        len(candidate.runs) == plan.cure_seeds and candidate.reaches,
        recommended,
        goodput.difference if goodput else None,
        goodput.low if goodput else None,
        goodput.high if goodput else None,
        slower.difference if slower else None,
        tuple(answer.cell_id for answer in (*candidate.runs, *calm.values())),
        ttft_p99_cost_low=slower.low if slower else None,
        ttft_p99_cost_high=slower.high if slower else None,
        stable=candidate.stable,
        up_to_k=up_to.k,
        up_to_low=up_to.low,
        up_to_high=up_to.high,
    )


def _up_to(plan: ProbePlan, known: Known, router: str, chosen: Halving) -> Survived:
    """The recommended set's survived size; unknown while its tries are not complete."""
    more = so_far(partial(beyond, plan, known, router, chosen))
    if more is None or chosen.recommended is None:
        return Survived(None, None, None, 0)
    tries = judged(chosen.recommended.runs, plan.wanted_k)
    return survived(tries + [(k, a.recovered) for k, a in more if a.recovered is not None], plan.sizes)


def _normal_days(plan: ProbePlan, known: Known, router: str, guard: str) -> dict[int, Answer]:
    """The placebo runs of an arm at the wanted load by seed."""
    load_rps = load_of(plan, plan.wanted_fraction)
    return {
        ask.seed: known[ask]
        for ask in sorted(known)
        if (ask.phase, ask.router, ask.guard, ask.variant, ask.load_rps) == (PLACEBO, router, guard, "", load_rps)
        and known[ask].verdict != "void"
    }


def _tails(runs: dict[int, Answer]) -> dict[int, float]:
    return {seed: run.calm_ttft_p99_s for seed, run in runs.items() if run.calm_ttft_p99_s is not None}


def _cost(more: dict[int, float], less: dict[int, float]) -> Paired | None:
    """The paired difference `more` − `less` over the seeds that both have; None without any."""
    seeds = sorted(more.keys() & less.keys())
    return paired_t([more[seed] for seed in seeds], [less[seed] for seed in seeds]) if seeds else None
