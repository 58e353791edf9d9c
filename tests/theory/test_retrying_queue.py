"""The simulator beside the theory of a retrying queue: its bistable region, and the burst that tips it over."""

from itertools import pairwise

import numpy as np
import pytest

from reports.frontier import SURVIVES, Sizes, next_size, survived
from reports.statistics import t_interval
from tests.theory.retrying_queue import RetryingQueue
from tests.theory.served_alone import answered, run

QUEUE = RetryingQueue(service_rps=20.0, timeout_s=5.0, attempts=3, backoff_s=1.0)
SPIKE_S = 20.0
SIZES = Sizes(least=1.1, most=6.0, count=40)


def test_between_the_edges_there_are_three_states_and_outside_one() -> None:
    low, high = QUEUE.lower_edge_rps, QUEUE.upper_edge_rps
    assert low == pytest.approx(20 / 3)
    assert [len(QUEUE.fixed_points_rps(load)) for load in (0.9 * low, (low + high) / 2, 1.01 * high)] == [1, 3, 1]
    calm, tipping, stuck = QUEUE.fixed_points_rps(18.0)
    assert 18.0 <= calm < tipping < QUEUE.service_rps < stuck == 54.0


def test_every_fixed_point_solves_the_equation_and_the_edge_is_where_two_meet() -> None:
    for x in QUEUE.fixed_points_rps(18.5)[:2]:
        q = np.exp(-(20 - x) * 5)
        assert x == pytest.approx(18.5 * (1 + q + q * q), rel=1e-6)
    calm, tipping, _ = QUEUE.fixed_points_rps(QUEUE.upper_edge_rps - 1e-4)
    assert tipping - calm < 0.05


def test_more_patience_and_fewer_attempts_narrow_the_region() -> None:
    patient, frugal = RetryingQueue(20.0, 10.0, 3, 1.0), RetryingQueue(20.0, 5.0, 2, 1.0)
    assert patient.upper_edge_rps > QUEUE.upper_edge_rps
    assert frugal.lower_edge_rps > QUEUE.lower_edge_rps


def test_the_burst_that_tips_it_over_is_a_little_above_the_one_that_fills_the_patience() -> None:
    for load in (8.0, 12.0, 16.0):
        fills = 20 / load * (1 + 5 / SPIKE_S)
        assert fills < QUEUE.least_deadly_k(load, SPIKE_S) < 1.05 * fills
    assert QUEUE.least_deadly_k(0.95 * QUEUE.lower_edge_rps, SPIKE_S) == float("inf")


@pytest.mark.slow
@pytest.mark.parametrize(("load", "share"), [(16.0, 0.018), (17.0, 0.050)])
def test_attempts_fail_as_often_as_an_m_m_1_queue_is_late(load: float, share: float) -> None:
    """q(x) of the theory, without retries: e^(−(µ − λ)τ) of the attempts take longer than a patience of 1 s."""
    hasty = RetryingQueue(service_rps=20.0, timeout_s=1.0, attempts=1, backoff_s=1.0)
    expected = np.exp(-(20.0 - load) * 1.0)
    assert expected == pytest.approx(share, abs=1e-3)
    late = t_interval([1 - answered(run(hasty, [(load, 600.0)], seed), 20, 600) for seed in range(1, 9)])
    assert late.low is not None
    assert late.high is not None
    assert late.low <= expected <= late.high, late
    assert late.high - late.low < expected


@pytest.mark.slow
def test_the_stuck_queue_neither_grows_nor_shrinks_at_the_lower_edge() -> None:
    """The load at which its drift is 0, interpolated between two loads a seed: the edge within the 95% interval, ± 5%."""
    crossings = []
    for seed in range(1, 9):
        drifts = []
        for load in (6.0, 7.5):
            waiting = run(QUEUE, [(12.0, 10.0), (60.0, 20.0), (load, 200.0)], seed).waiting[60:225]
            drifts.append(float(np.polyfit(np.arange(len(waiting)), waiting, 1)[0]))
        crossings.append(6.0 - 1.5 * drifts[0] / (drifts[1] - drifts[0]))
    found = t_interval(crossings)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= QUEUE.lower_edge_rps <= found.high, found
    assert found.high - found.low < 0.1 * QUEUE.lower_edge_rps


@pytest.mark.slow
@pytest.mark.parametrize(("share", "heals"), [(0.8, True), (1.2, False)])
def test_shed_below_the_lower_edge_it_heals_and_above_it_does_not(share: float, heals: bool) -> None:
    load = share * QUEUE.lower_edge_rps
    ends = [answered(run(QUEUE, [(12.0, 10.0), (60.0, 8.0), (load, 550.0)], seed), 540.0, 565.0) for seed in range(1, 7)]
    assert [end > 0.9 for end in ends] == [heals] * 6, ends


@pytest.mark.slow
def test_the_upper_edge_lies_between_the_loads_that_hold_and_those_that_collapse_untouched() -> None:
    """1,500 s without a burst: the largest load that every seed holds is below the edge, the least that none does above it."""
    loads = (17.0, 18.0, 19.5, 20.0)
    ends = {load: [answered(run(QUEUE, [(load, 1500.0)], seed), 1470.0, 1500.0) for seed in range(1, 5)] for load in loads}
    held = max(load for load in loads if min(ends[load]) > 0.9)
    lost = min(load for load in loads if max(ends[load]) < 0.1)
    assert held < QUEUE.upper_edge_rps < lost, ends
    assert lost / held < 1.1  # a finite chain leaves the calm state below the edge, too, and above it may linger


@pytest.mark.slow
@pytest.mark.parametrize("load", [8.0, 11.0, 14.0])
def test_the_frontier_is_the_theory_s_within_its_interval(load: float) -> None:
    """The burst that nine of ten runs survive, found by the probe's own search in 50 runs."""
    done: list[tuple[float, bool]] = []
    for seed in range(300, 350):
        k, _ = next_size(done, SIZES)
        ended = answered(run(QUEUE, [(load, 20.0), (k * load, SPIKE_S), (load, 100.0)], seed), 120.0, 140.0)
        done.append((k, ended > 0.5))
    found = survived(done, SIZES)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= QUEUE.survived_k(load, SPIKE_S, SURVIVES) <= found.high, (
        found,
        QUEUE.survived_k(load, SPIKE_S, SURVIVES),
    )
    assert found.spread < 0.15


def test_the_theory_s_frontier_falls_with_the_load_and_rises_with_the_share_that_may_fail() -> None:
    survived_k = [QUEUE.survived_k(load, SPIKE_S, 0.9) for load in (8.0, 11.0, 14.0)]
    assert all(a > b for a, b in pairwise(survived_k))
    assert QUEUE.survived_k(11.0, SPIKE_S, 0.5) > survived_k[1]
