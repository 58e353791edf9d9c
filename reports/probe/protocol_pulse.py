"""P2: every kind of trigger at the middle load, and the wanted burst at every load. It searches no size."""

import json
from functools import partial

from reports.probe.asks import PULSE, Answer
from reports.probe.cells import arms_of, cell, load_of, spike
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol_placebo import carries
from reports.probe.waiting import Known, heard, together


def search(plan: ProbePlan, known: Known) -> None:
    """Asks for every pulse of every arm; raises `Waiting`."""
    together([partial(pulses, plan, known, arm, fraction) for arm in arms_of(plan) for fraction in plan.fractions])


def pulses(plan: ProbePlan, known: Known, arm: Arm, fraction: float) -> list[Answer]:
    """The arm's pulses at a load, by trigger and seed; none where it is unstable."""
    load_rps = load_of(plan, fraction)
    if not carries(plan, known, arm, load_rps):
        return []
    rows = [(trigger, number) for trigger in triggers(plan, fraction) for number in range(plan.pulse_seeds)]
    return heard(known, [cell(plan, PULSE, arm, load_rps, number=number, trigger=trigger) for trigger, number in rows])


def triggers(plan: ProbePlan, fraction: float) -> list[str]:
    """What is tried at a load: all of `plan.pulses` at the middle one, and everywhere the burst that cures are wanted for."""
    middle = sorted(plan.fractions)[len(plan.fractions) // 2]
    wanted = spike(plan, plan.wanted_k, plan.lengths_s[0])
    rest = [json.dumps(json.loads(pulse), sort_keys=True) for pulse in plan.pulses] if fraction == middle else []
    return list(dict.fromkeys((wanted, *rest)))
