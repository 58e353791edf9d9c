"""P6: one loop taken away at a time, where an arm stays down. It does not test anything: `conclude_attribution` does.

First the arm as it is, on `attribution_seeds` seeds at a stuck setting; if it comes back too often the burst grows, some sizes at
a time. Then as many seeds again, because all variants are compared with this one baseline. Each variant gets the first half of
the baseline's seeds, and, where it brings recovery back, `UP_TRIES` more at sizes that tell up to where.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from reports.probe.asks import ATTRIBUTION, Answer, Ask
from reports.probe.cells import arms_of, cell, spike
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan, Variant
from reports.probe.protocol_frontier import judged, tries_beyond
from reports.probe.protocol_placebo import calm_runs, holds
from reports.probe.stuck import Setting, settings
from reports.probe.waiting import Known, heard, together

DOWN = 0.8  # the least share of baseline runs that stay down
RESTORED = 0.8  # the least share of a restoring variant's runs that recover
GROWS, GROW_STEPS = 2, 3  # a burst too small grows by so many sizes, so many times
UP_TRIES = 6


@dataclass(frozen=True, slots=True)
class Removal:
    """What one change did: whether it carries the load at all, its runs on the baseline's seeds, its tries at other sizes."""

    variant: Variant
    stable: bool
    runs: tuple[Answer, ...] = ()
    beyond: tuple[tuple[float, Answer], ...] = ()


@dataclass(frozen=True, slots=True)
class Why:
    """The arm as it is at a stuck setting, and each loop taken away from it."""

    setting: Setting
    baseline: tuple[Answer, ...]
    removals: tuple[Removal, ...]


def search(plan: ProbePlan, known: Known) -> None:
    """Asks until every stuck arm has been tried without each of its loops; raises `Waiting`."""
    together([partial(attributions, plan, known, arm) for arm in arms_of(plan)])


def attributions(plan: ProbePlan, known: Known, arm: Arm) -> list[Why]:
    """At the arm's first `attribution_settings` stuck settings; none where it is always back."""
    chosen = settings(plan, known, arm)[: plan.attribution_settings]
    found = together([partial(_why, plan, known, arm, setting) for setting in chosen])
    return [why for why in found if why is not None]


def share(answers: Sequence[Answer]) -> float | None:
    """Runs recovered of those that say; None where none does."""
    said = [answer.recovered for answer in answers if answer.recovered is not None]
    return sum(said) / len(said) if said else None


def _why(plan: ProbePlan, known: Known, arm: Arm, setting: Setting) -> Why | None:
    deadly = _deadly(plan, known, arm, setting)
    if deadly is None:
        return None
    variants = [v for v in plan.variants if v.arms is None or arm in v.arms]
    removed = together([partial(_removal, plan, known, arm, deadly, variant) for variant in variants])
    return Why(deadly, tuple(_baseline(plan, known, arm, deadly)), tuple(removed))


def _deadly(plan: ProbePlan, known: Known, arm: Arm, setting: Setting) -> Setting | None:
    """The setting, its burst as large as it must be for the arm to stay down; None where it always comes back often enough."""
    values = [float(k) for k in plan.sizes.values()]
    for _ in range(1 + GROW_STEPS):
        runs = _runs(plan, known, arm, setting, "", plan.attribution_seeds)
        if _stays_down(runs) and _stays_down(_baseline(plan, known, arm, setting)):
            return setting
        larger = [k for k in values if k > setting.k]
        if not larger:
            return None
        setting = replace(setting, k=larger[min(GROWS, len(larger)) - 1])
    return None


def _baseline(plan: ProbePlan, known: Known, arm: Arm, setting: Setting) -> list[Answer]:
    return _runs(plan, known, arm, setting, "", 2 * plan.attribution_seeds)


def _stays_down(runs: Sequence[Answer]) -> bool:
    recovered = share(runs)
    return recovered is not None and recovered <= 1 - DOWN + 1e-9


def _removal(plan: ProbePlan, known: Known, arm: Arm, setting: Setting, variant: Variant) -> Removal:
    if not holds(calm_runs(plan, known, arm, setting.load_rps, plan.band_seeds, variant.name)):
        return Removal(variant, False)
    runs = _runs(plan, known, arm, setting, variant.name, plan.attribution_seeds)
    recovered = share(runs)
    if recovered is None or recovered < RESTORED:
        return Removal(variant, True, tuple(runs))
    return Removal(variant, True, tuple(runs), _beyond(plan, known, arm, setting, variant, runs))


def _beyond(
    plan: ProbePlan, known: Known, arm: Arm, setting: Setting, variant: Variant, runs: Sequence[Answer]
) -> tuple[tuple[float, Answer], ...]:
    """Tries that tell up to which size the change restores recovery."""

    def make(size: float, number: int) -> Ask:
        trigger = spike(plan, size, setting.length_s)
        return cell(plan, ATTRIBUTION, arm, setting.load_rps, number=number, trigger=trigger, variant=variant.name)

    return tries_beyond(plan, known, make, judged(runs, setting.k), plan.attribution_seeds, UP_TRIES)


def _runs(plan: ProbePlan, known: Known, arm: Arm, setting: Setting, variant: str, seeds: int) -> list[Answer]:
    trigger = spike(plan, setting.k, setting.length_s)
    row = partial(cell, plan, ATTRIBUTION, arm, setting.load_rps, trigger=trigger, variant=variant)
    return heard(known, [row(number=number) for number in range(seeds)])
