"""The search for capacity on made-up systems of known capacity."""

import json
from pathlib import Path

import pytest

from reports.protocol import capacity_estimate, capacity_next, cohort_success
from tests.reports.run_folder import SLO, Arm, make_run_folder


def search(capacity_rps: float, start_rps: float, at_once: int = 2) -> tuple[list[tuple[float, float]], int]:
    """Runs the search on a system that serves everything up to its capacity and capacity/load beyond it."""
    results: list[tuple[float, float]] = []
    rounds = 0
    while loads := capacity_next(results, start_rps, at_once=at_once):
        results += [(load, min(1.0, capacity_rps / load)) for load in loads]
        rounds += 1
        assert rounds < 40
    return results, rounds


@pytest.mark.parametrize("capacity_rps", [0.3, 7.7, 29.0, 400.0])
@pytest.mark.parametrize("start_rps", [1.0, 30.0])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_the_search_ends_with_the_capacity_within_three_percent(capacity_rps: float, start_rps: float, at_once: int) -> None:
    results, _ = search(capacity_rps, start_rps, at_once)
    c_star, low, high = capacity_estimate(results)
    assert high / low <= 1.03
    assert low <= c_star <= high
    assert c_star == pytest.approx(capacity_rps / 0.95, rel=0.03)  # where success crosses .95


def test_more_at_once_needs_fewer_rounds() -> None:
    assert search(29.0, 10.0, at_once=3)[1] < search(29.0, 10.0, at_once=1)[1]


def test_no_load_is_tried_twice() -> None:
    loads = [load for load, _ in search(29.0, 10.0)[0]]
    assert len(loads) == len(set(loads))


def test_seeds_of_one_load_are_averaged() -> None:
    low, high = capacity_estimate([(10, 1.0), (10, 0.9), (12, 0.9), (12, 0.98)])[1:]  # means .95 passes, .94 fails
    assert (low, high) == (10, 12)


def test_a_lucky_load_above_a_failing_one_does_not_count() -> None:
    assert capacity_estimate([(10, 1.0), (20, 0.5), (30, 0.96)])[1:] == (10, 20)


def test_the_estimate_lies_where_success_crosses_the_target() -> None:
    assert capacity_estimate([(10, 1.0), (20, 0.9)])[0] == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("results", "says"), [([(10.0, 0.2)], "none of 1 tries"), ([(10.0, 1.0)], "every one of 1 tries"), ([], "none of 0 tries")]
)
def test_an_open_bracket_is_no_estimate(results: list[tuple[float, float]], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        capacity_estimate(results)


def test_a_system_that_never_fails_ends_the_search() -> None:
    results: list[tuple[float, float]] = []
    while loads := capacity_next(results, 1.0):
        results += [(load, 1.0) for load in loads]
    assert 1000 < max(load for load, _ in results) <= 4096


@pytest.mark.parametrize(("start_rps", "at_once"), [(0.0, 2), (float("nan"), 2), (1.0, 0)])
def test_absurd_starts_are_refused(start_rps: float, at_once: int) -> None:
    with pytest.raises(ValueError, match=r"start_rps|at_once"):
        capacity_next([], start_rps, at_once=at_once)


def test_cohort_success_counts_each_request_of_the_phase_once(tmp_path: Path) -> None:
    run = make_run_folder(tmp_path, arms=[Arm("random", "patient", "dead")], seeds=[1])
    folder = next((run / "cells").iterdir())
    cell = json.loads((folder / "cell.json").read_text())
    steady = cohort_success(folder / "attempts.parquet", cell, SLO)
    assert steady == cohort_success(folder / "attempts.parquet", folder / "cell.json", SLO)
    assert 0.97 < steady <= 1.0
    assert cohort_success(folder / "attempts.parquet", cell, SLO, "recovery") == pytest.approx(0.1, abs=0.05)
    assert cohort_success(folder / "attempts.parquet", cell, {**SLO, "ttft_s": 1e-6}) == 0.0
    with pytest.raises(ValueError, match="no request was due in phase 'nap'"):
        cohort_success(folder / "attempts.parquet", cell, SLO, "nap")
    with pytest.raises(ValueError, match=r"slo\.ttft_ms"):
        cohort_success(folder / "attempts.parquet", cell, {"ttft_ms": 3.0})
