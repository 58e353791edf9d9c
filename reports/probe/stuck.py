"""Where an arm stays down: the loads, lengths and sizes from which it hardly ever comes back. It does not know why.

A deadly size is one at which the recovery model's mean probability is at most `DEADLY`, with a margin of `MARGIN` in k above it,
so that a run begun there is stuck; some try at most that large must have failed.
"""

from dataclasses import dataclass
from functools import lru_cache, partial

from reports.frontier import Sizes, probability
from reports.probe.cells import load_of
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol_frontier import Row, Tries, rows
from reports.probe.waiting import Known, together

DEADLY = 0.25
MARGIN = 1.15


@dataclass(frozen=True, slots=True)
class Setting:
    """A burst that leaves an arm stuck: `k` times `load_rps` for `length_s`."""

    fraction: float
    load_rps: float
    length_s: float
    k: float


def settings(plan: ProbePlan, known: Known, arm: Arm) -> list[Setting]:
    """The arm's stuck settings, the plan's first length and the loads nearest to the wanted one first."""
    by_length = together([partial(rows, plan, known, arm, length) for length in plan.lengths_s])
    found: list[tuple[int, float, Setting]] = []
    for place, (length_s, by_fraction) in enumerate(zip(plan.lengths_s, by_length, strict=True)):
        for fraction, row in by_fraction.items():
            if (k := deadly_size(counted(row), plan.sizes)) is not None:
                far = round(abs(fraction - plan.wanted_fraction), 9)
                found.append((place, far, Setting(fraction, load_of(plan, fraction), length_s, k)))
    return [setting for _, _, setting in sorted(found, key=lambda x: (x[0], x[1], x[2].fraction))]


def counted(row: Row) -> Tries:
    """A row's tries with those it leans on."""
    return tuple(sorted((*row.tries, *row.lent)))


@lru_cache(maxsize=4096)
def deadly_size(tries: Tries, sizes: Sizes) -> float | None:
    """The smallest deadly size with its margin; None where no size is."""
    values = [float(k) for k in sizes.values()]
    failed = min((k for k, recovered in tries if not recovered), default=None)
    if failed is None:
        return None
    means = probability(tries, values, sizes)
    least = next((k for k, (_, mean, _) in zip(values, means, strict=True) if mean <= DEADLY and k >= failed), None)
    return None if least is None else next((k for k in values if k >= MARGIN * least), values[-1])
