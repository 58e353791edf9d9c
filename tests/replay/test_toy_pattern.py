"""The pattern of a toy model of retries, on our simulator: which clients let a pool come back after a burst, and at what load.

Its parameters stand in `toy`. The burst: 3× for 20 s at 20, 24 and 27 rps (0.7, 0.8 and 0.9 of C*), then 200 s at the base load
(150 s where work goes on for nobody). Ten seeds, the same arrivals for all clients.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from reports.bands import Bands, bands
from reports.course import Course
from reports.verdict import Stretches, judge
from tests.replay.toy import DRAIN_S, PATIENCE, WAYS, Way, course

pytestmark = pytest.mark.slow

SEEDS = range(1, 11)
LOADS = (20.0, 24.0, 27.0)
K, STEADY_S, SPIKE_S, OBSERVED_S = 3, 30.0, 20.0, 200.0
STUCK_S = 150.0  # 15 timeouts of a pool that works for nobody: it makes three times the attempts of the others
CALM_S, CALM_SEEDS, DWELL_S = 110.0, (1, 2, 3), 50.0


def success(seen: Course, start_s: float, end_s: float) -> float:
    part = seen.cut(start_s, end_s)
    return float(part.succeeded.sum() / part.scheduled.sum())


@lru_cache(maxsize=16)
def calm(name: str, load_rps: float) -> Bands:
    """The bands of undisturbed runs."""
    runs = [course(WAYS[name], ((load_rps, CALM_S),), 100 + seed) for seed in CALM_SEEDS]
    return bands([run.cut(10, CALM_S) for run in runs])


def recoveries(name: str, load_rps: float) -> list[float | None]:
    """When each seed's run came back after the burst, in seconds; None where it did not."""
    found = []
    observed_s = STUCK_S if name == "orphaned" else OBSERVED_S
    for seed in SEEDS:
        run = course(WAYS[name], ((load_rps, STEADY_S), (K * load_rps, SPIKE_S), (load_rps, observed_s)), seed)
        back_s, end_s = STEADY_S + SPIKE_S, STEADY_S + SPIKE_S + observed_s
        parts = Stretches(run.cut(10, STEADY_S - 5), run.cut(back_s, end_s), run.cut(end_s, end_s + DRAIN_S))
        verdict = judge(parts, calm(name, load_rps))
        assert verdict.verdict in ("recovered", "metastable", "slow"), verdict
        found.append(verdict.recovery_s)
    return found


def test_capacity_is_29_rps() -> None:
    """With nobody giving up, 95% are served in time at 28 rps and not at 31; between, success falls through it near 29."""
    patient = Way(replace(PATIENCE, ttft_timeout_s=None, max_attempts=1), {})
    share = {
        rps: float(np.mean([success(course(patient, ((rps, 300.0),), seed), 10, 290) for seed in (1, 2)])) for rps in (28, 31)
    }
    assert share[28] >= 0.95 > share[31], share


@pytest.mark.parametrize("load_rps", LOADS)
@pytest.mark.parametrize("name", ["no retries", "token bucket", "queue cap"])
def test_without_a_loop_or_with_one_that_is_bounded_every_run_comes_back(name: str, load_rps: float) -> None:
    assert None not in recoveries(name, load_rps)


@pytest.mark.parametrize(("load_rps", "back"), [(20.0, True), (24.0, True), (27.0, False)])
def test_with_cancellation_runs_come_back_below_nine_tenths_of_capacity(load_rps: float, back: bool) -> None:
    found = recoveries("cancelled", load_rps)
    assert [seconds is not None for seconds in found] == [back] * len(SEEDS), found


@pytest.mark.parametrize("load_rps", LOADS)
def test_work_for_nobody_keeps_every_run_down(load_rps: float) -> None:
    assert recoveries("orphaned", load_rps) == [None] * len(SEEDS)


def test_going_down_the_staircase_nothing_is_served_where_all_was_going_up() -> None:
    """Up to 45 rps and down again, five timeouts a step: at 27 rps success was 0.8–1 and is 0; a queue cap brings it back."""
    pieces = tuple((rps, DWELL_S) for rps in (20.0, 24.0, 27.0, 45.0, 27.0))

    def at_27(name: str, seed: int) -> tuple[float, float]:
        """Success in the last 35 s of the step up and of the step down."""
        run = course(WAYS[name], pieces, seed)
        return success(run, 2.3 * DWELL_S, 3 * DWELL_S), success(run, 4.3 * DWELL_S, 5 * DWELL_S)

    loops = [at_27("orphaned", seed) for seed in SEEDS]
    assert min(up for up, _ in loops) > 0.8, loops
    assert np.mean([up for up, _ in loops]) > 0.93, loops  # 35 s at 93% of C*
    assert max(down for _, down in loops) == 0.0, loops
    capped = [at_27("queue cap", seed) for seed in CALM_SEEDS]
    assert min(down for _, down in capped) > 0.9, capped
