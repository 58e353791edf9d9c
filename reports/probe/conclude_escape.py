"""What the sheds say: the hidden capacity of arms that get stuck. It asks nothing."""

from functools import partial

from reports.probe.asks import ESCAPE
from reports.probe.cells import arms_of
from reports.probe.findings import Arm, Escape
from reports.probe.plan import ProbePlan
from reports.probe.protocol_escape import Shed, escape
from reports.probe.waiting import Known, so_far


def escapes(plan: ProbePlan, known: Known) -> tuple[Escape, ...]:
    """A row an arm with a stuck state whose search is complete."""
    if ESCAPE not in plan.phases:
        return ()
    found = ((arm, so_far(partial(escape, plan, known, arm))) for arm in arms_of(plan))
    return tuple(_row(plan, arm, shed) for arm, shed in found if shed is not None)


def _row(plan: ProbePlan, arm: Arm, shed: Shed) -> Escape:
    base_rps = shed.setting.load_rps
    return Escape(
        arm,
        base_rps,
        plan.shed_dwells * plan.dwell_s,
        None if shed.heals is None else shed.heals * base_rps,
        None if shed.stays is None else shed.stays * base_rps,
        tuple(answer.cell_id for answer in shed.answers),
        k=shed.setting.k,
        length_s=shed.setting.length_s,
    )
