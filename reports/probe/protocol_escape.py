"""P5: from which load a stuck arm heals by itself. Burst, stuck time, shed and return are pieces of one run's load.

The shed is a factor of the base load; bisection between none at all (0) and no shed (1, where the arm is stuck).
"""

from dataclasses import dataclass
from functools import partial

from reports.probe.asks import ESCAPE, Answer, Piece
from reports.probe.cells import arms_of, course_cell
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.stuck import Setting, settings
from reports.probe.waiting import Known, heard, together
from reports.protocol import TARGET_SUCCESS

HALVINGS = 4  # the shed is known to 1/16 of the base load
SPARE_SEEDS = 2
STUCK, HEALED = 2, 4  # places in `pieces` of the time before the shed, and of the time after it


@dataclass(frozen=True, slots=True)
class Shed:
    """The bracket in factors of the base load: the largest that heals, the smallest that does not; None where there is none."""

    setting: Setting
    heals: float | None
    stays: float | None
    answers: tuple[Answer, ...]


def search(plan: ProbePlan, known: Known) -> None:
    """Asks until the hidden capacity of every arm with a stuck state is bracketed; raises `Waiting`."""
    together([partial(escape, plan, known, arm) for arm in arms_of(plan)])


def escape(plan: ProbePlan, known: Known, arm: Arm) -> Shed | None:
    """The arm's bracket at its first stuck setting; None where nothing leaves it stuck."""
    found = settings(plan, known, arm)
    if not found:
        return None
    setting, answers = found[0], list[Answer]()
    low, high = 0.0, 1.0
    heals: float | None = None
    stays: float | None = None
    for _ in range(HALVINGS):
        factor = (low + high) / 2
        healed = _heals(plan, known, arm, setting, factor, answers)
        if healed is None:
            return Shed(setting, heals, stays, tuple(answers))
        if healed:
            low = heals = factor
        else:
            high = stays = factor
    if heals is None and _heals(plan, known, arm, setting, 0.0, answers):
        heals = 0.0
    return Shed(setting, heals, stays, tuple(answers))


def pieces(plan: ProbePlan, setting: Setting, factor: float) -> tuple[Piece, ...]:
    """Calm, burst, stuck, shed to `factor`, back at the base load."""
    dwell_s = plan.dwell_s
    return ((1.0, dwell_s), (setting.k, setting.length_s), (1.0, dwell_s), (factor, plan.shed_dwells * dwell_s), (1.0, dwell_s))


def _heals(plan: ProbePlan, known: Known, arm: Arm, setting: Setting, factor: float, seen: list[Answer]) -> bool | None:
    """Whether the first run that was stuck before the shed is well after it; None where no run was stuck."""
    for number in range(1 + SPARE_SEEDS):
        shape = pieces(plan, setting, factor)
        [answer] = heard(known, [course_cell(plan, ESCAPE, arm, setting.load_rps, shape, number)])
        seen.append(answer)
        before, after = (answer.levels[i] if len(answer.levels) > i else None for i in (STUCK, HEALED))
        if answer.verdict != "void" and before is not None and after is not None and before < TARGET_SUCCESS:
            return after >= TARGET_SUCCESS
    return None
