"""P3: how large a burst an arm survives at each load, one try at a time. It does not know why an arm fails.

The next size is the one that is expected to tell most (`reports.frontier.next_size`); a row ends when its tries are spent, when
its interval is narrow, or when no size would tell much. A lighter load survives at least what a heavier one does, which saves
tries where it is safe: the highest load goes first, and if the arm came back from *every* try there, the lower loads get only
`CHECKS` tries at the largest size; if the lowest load failed every try, the loads between get `CHECKS` at the least size. A check
that turns out otherwise makes a whole row of it. A row that was only checked leans on the tries of the load checked against.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from reports.frontier import Sizes, next_size, survived
from reports.probe.asks import FRONTIER, Answer, Ask
from reports.probe.cells import arms_of, cell, load_of, spike
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol_placebo import carries
from reports.probe.waiting import Known, heard, together

Tries = tuple[tuple[float, bool], ...]

NARROW = float(np.log(1.2))  # high/low of an interval that needs no further try
LEAST_GAIN = 0.006  # of the sd of ln k
LEAST_TRIES = 4
ALL_RECOVERED, ALL_FAILED = 6, 4  # tries with one outcome that speak for another load (a dead arm's row is soon complete)
BEFORE_LARGEST, AT_LARGEST = 2, 4
CHECKS = 2
SPARE_SEEDS = 3  # runs that say nothing, before a row is given up


@dataclass(frozen=True, slots=True)
class Row:
    """The tries of one arm, load and length, in the order asked; `leans_on`: the fraction whose tries (in `lent`) count too."""

    answers: tuple[Answer, ...]
    tries: Tries
    leans_on: float | None = None
    lent: Tries = ()


def search(plan: ProbePlan, known: Known) -> None:
    """Asks until every row is complete; raises `Waiting`."""
    together([partial(rows, plan, known, arm, length) for arm in arms_of(plan) for length in plan.lengths_s])


def rows(plan: ProbePlan, known: Known, arm: Arm, length_s: float) -> dict[float, Row]:
    """The rows of an arm by fraction, stable loads alone."""
    fractions = sorted(plan.fractions)
    stable = together([partial(carries, plan, known, arm, load_of(plan, fraction)) for fraction in fractions])
    fractions = [fraction for fraction, carried in zip(fractions, stable, strict=True) if carried]
    if not fractions:
        return {}
    row = partial(_row, plan, known, arm, length_s)
    found = {fractions[-1]: row(fractions[-1])}
    model, expected = fractions[-1], True
    if not alike(found[model], True) and len(fractions) > 1:
        model, expected = fractions[0], False
        found[model] = row(model)
    check = _Check(model, expected, found[model].tries) if alike(found[model], expected) else None
    rest = [fraction for fraction in fractions if fraction not in found]
    made = together([partial(row, fraction, check) for fraction in rest])
    return dict(sorted({**found, **dict(zip(rest, made, strict=True))}.items()))


def alike(row: Row, recovered: bool) -> bool:
    """Whether every try of a row ended that way, and there are enough of them to speak for another load."""
    return len(row.tries) >= (ALL_RECOVERED if recovered else ALL_FAILED) and all(r == recovered for _, r in row.tries)


@dataclass(frozen=True, slots=True)
class _Check:
    """The load whose tries all ended as `expected`, and those tries."""

    fraction: float
    expected: bool
    tries: Tries

    def size(self, tries: Sequence[tuple[float, bool]], sizes: Sizes) -> float | None:
        """The size of the next check; None after the last, or when one turned out otherwise."""
        if len(tries) >= CHECKS or any(recovered != self.expected for _, recovered in tries):
            return None
        return float(sizes.values()[-1 if self.expected else 0])

    def passed(self, tries: Sequence[tuple[float, bool]]) -> bool:
        return len(tries) == CHECKS and all(recovered == self.expected for _, recovered in tries)


def _row(plan: ProbePlan, known: Known, arm: Arm, length_s: float, fraction: float, check: _Check | None = None) -> Row:
    answers: list[Answer] = []
    tries: list[tuple[float, bool]] = []
    while len(answers) - len(tries) <= SPARE_SEEDS:
        size = (check.size(tries, plan.sizes) if check else None) or next_try(tuple(tries), plan)
        if size is None:
            break
        trigger = spike(plan, size, length_s)
        answers += heard(known, [cell(plan, FRONTIER, arm, load_of(plan, fraction), number=len(answers), trigger=trigger)])
        tries += judged(answers[-1:], size)
        if check and check.passed(tries):
            return Row(tuple(answers), tuple(tries), check.fraction, check.tries)
    return Row(tuple(answers), tuple(tries))


def next_try(tries: Tries, plan: ProbePlan) -> float | None:
    """The size of the next try, None when the row is complete. The order of the tries does not matter.

    While every one of them recovered the largest size is next: `AT_LARGEST` such tries say as much as a dozen on the way there.
    """
    if len(tries) >= plan.frontier_tries:
        return None
    if len(tries) >= BEFORE_LARGEST and all(recovered for _, recovered in tries):
        largest = float(plan.sizes.values()[-1])
        return largest if sum(k == largest for k, _ in tries) < AT_LARGEST else None
    size, gain, spread = _next_size(tuple(sorted(tries)), plan.sizes)
    return None if len(tries) >= LEAST_TRIES and (gain < LEAST_GAIN or spread <= NARROW) else size


@lru_cache(maxsize=65536)
def _next_size(tries: Tries, sizes: Sizes) -> tuple[float, float, float]:
    """(size, gain, spread so far): kept, because a search begun again goes the same way."""
    return *next_size(tries, sizes), survived(tries, sizes).spread


def tries_beyond(
    plan: ProbePlan, known: Known, make: Callable[[float, int], Ask], tries: Sequence[tuple[float, bool]], first: int, count: int
) -> tuple[tuple[float, Answer], ...]:
    """At most `count` more tries, beside those made, at the sizes that tell most; `make` is the cell of a size and a number."""
    made, beyond = list(tries), list[tuple[float, Answer]]()
    wide = replace(plan, frontier_tries=len(made) + count)
    for number in range(first, first + count):
        size = next_try(tuple(made), wide)
        if size is None:
            break
        [answer] = heard(known, [make(size, number)])
        beyond.append((size, answer))
        made += judged([answer], size)
    return tuple(beyond)


def judged(answers: Sequence[Answer], size: float) -> list[tuple[float, bool]]:
    """(k, recovered) of the answers that say either."""
    return [(size, answer.recovered) for answer in answers if answer.recovered is not None]
