"""Judging a run while it lasts: on real simulated cells a stopped run has the verdict that the whole run has."""

from collections import Counter

import numpy as np
import pytest

from replay.recorder import Recorder
from reports.bands import Bands, bands
from reports.verdict import Stretches, Verdict, judge, settled
from tests.replay.toy import DRAIN_S, SLO, WAYS, course, course_so_far

CELLS = 200
STEADY_S, SPIKE_S, OBSERVED_S = 30, 20, 240
BACK_S = STEADY_S + SPIKE_S
END_S = BACK_S + OBSERVED_S
LOOK_S = 10
LOADS_RPS = (18.0, 22.0, 25.0, 27.0)


def both_verdicts(name: str, load_rps: float, k: float, seed: int, calm: Bands) -> tuple[Verdict | None, Verdict]:
    """(the verdict at the first look at which the run could be stopped, that of the whole run)."""
    stopped: list[Verdict] = []

    def watch(now_s: float, recorder: Recorder) -> None:
        if stopped or now_s < BACK_S + 75 or now_s > END_S or now_s % LOOK_S:
            return
        so_far = course_so_far(recorder, now_s)
        known_s = int(now_s - (SLO["ttft_s"] or 0.0))
        after = so_far.cut(BACK_S, known_s)
        if settled(after, calm):
            stopped.append(judge(Stretches(so_far.cut(10, STEADY_S - 5), after, so_far.cut(known_s, known_s)), calm))

    pieces = ((load_rps, float(STEADY_S)), (k * load_rps, float(SPIKE_S)), (load_rps, float(OBSERVED_S)))
    run = course(WAYS[name], pieces, seed, watch)
    whole = Stretches(run.cut(10, STEADY_S - 5), run.cut(BACK_S, END_S), run.cut(END_S, END_S + DRAIN_S))
    return (stopped[0] if stopped else None), judge(whole, calm)


@pytest.mark.slow
def test_a_run_that_is_stopped_has_the_verdict_of_the_whole_run() -> None:
    """200 cells: five kinds of clients, four loads, bursts of 1.5–4×. Those that are not stopped run to their end anyway."""
    rng = np.random.default_rng(12)
    arms = {
        (name, load): bands([course(WAYS[name], ((load, 100.0),), 100 + seed).cut(10, 100) for seed in (1, 2, 3)])
        for name in WAYS
        for load in LOADS_RPS
    }
    differ, verdicts, stopped = [], Counter[str | None](), 0
    for number in range(CELLS):
        name, load = list(arms)[number % len(arms)]
        k = float(rng.uniform(1.5, 4))
        early, whole = both_verdicts(name, load, k, number, arms[name, load])
        verdicts[whole.verdict] += 1
        stopped += early is not None
        if early is not None and (early.verdict, early.recovery_s) != (whole.verdict, whole.recovery_s):
            differ.append((number, name, load, k, early, whole))
    assert len(differ) <= 0.01 * CELLS, differ
    print(f"{stopped} of {CELLS} stopped, {len(differ)} differ, {dict(verdicts)}")
    assert stopped > 0.3 * CELLS, (stopped, verdicts)
    assert min(verdicts["recovered"], verdicts["metastable"]) >= 10, verdicts
