"""P4: the load goes up a staircase and down again; where success then differs, the arm remembers. It judges no run."""

from functools import partial

from reports.probe.asks import STAIRCASE, Answer, Piece
from reports.probe.cells import arms_of, course_cell, load_of
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.waiting import Known, heard, together

DIFFERS = 0.1  # a success share lower by this on the way down is looked at again
MORE_SEEDS = 2


def search(plan: ProbePlan, known: Known) -> None:
    """Asks for the staircases of every arm; raises `Waiting`."""
    together([partial(staircases, plan, known, arm) for arm in arms_of(plan)])


def staircases(plan: ProbePlan, known: Known, arm: Arm) -> list[Answer]:
    """One run an arm, and `MORE_SEEDS` more where its way down differs from its way up."""
    asks = [course_cell(plan, STAIRCASE, arm, load_of(plan, 1.0), pieces(plan), number) for number in range(1 + MORE_SEEDS)]
    first = heard(known, asks[:1])
    return heard(known, asks) if differs(first[0]) else first


def pieces(plan: ProbePlan) -> tuple[Piece, ...]:
    """Factors of C_ref, `dwell_s` each: up, and down again without a second stay at the top."""
    up = sorted(plan.steps)
    return tuple((factor, plan.dwell_s) for factor in (*up, *up[-2::-1]))


def up_and_down(answer: Answer) -> list[tuple[float | None, float | None]]:
    """(success on the way up, on the way down) of each step, loads ascending; the top is on both ways."""
    steps = (len(answer.levels) + 1) // 2
    return list(zip(answer.levels[:steps], reversed(answer.levels[steps - 1 :]), strict=True))


def differs(answer: Answer) -> bool:
    return any(up is not None and down is not None and up - down >= DIFFERS for up, down in up_and_down(answer))
