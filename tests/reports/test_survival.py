"""Survival curves against a published example and against the median that the leaderboard prints."""

import pytest

from reports.statistics import kaplan_meier_median
from reports.survival import survival

SIX_MP = [(t, True) for t in (6, 6, 6, 7, 10, 13, 16, 22, 23)] + [
    (t, False) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)
]
"""Weeks of remission with 6-mercaptopurine (Freireich et al. 1963, Blood 21; the textbook example of the estimate)."""


def test_the_curve_of_the_textbook_example_is_the_published_one() -> None:
    published = {  # share and its log-log 95% limits, as survival packages print them
        6: (0.857, 0.620, 0.952),
        7: (0.807, 0.563, 0.923),
        10: (0.753, 0.503, 0.889),
        13: (0.690, 0.432, 0.849),
        16: (0.627, 0.368, 0.805),
        22: (0.538, 0.268, 0.747),
        23: (0.448, 0.188, 0.680),
    }
    steps = {s.at_s: s for s in survival([(float(t), came) for t, came in SIX_MP])}
    for week, wanted in published.items():
        assert (steps[week].share, steps[week].low, steps[week].high) == pytest.approx(wanted, abs=6e-4), week
    assert [steps[week].at_risk for week in published] == [21, 17, 15, 12, 11, 7, 6]


def test_a_censored_time_moves_nothing_but_who_is_watched() -> None:
    steps = survival([(5.0, True), (8.0, False), (9.0, True), (9.0, False)])
    assert [(s.at_s, s.share, s.at_risk) for s in steps] == [(0, 1, 4), (5, 0.75, 4), (8, 0.75, 3), (9, 0.375, 2)]


def test_the_curve_crosses_one_half_at_the_median() -> None:
    times = [(float(t), came) for t, came in SIX_MP]
    median = kaplan_meier_median([t for t, came in times if came], [t for t, came in times if not came])
    assert median.mean == next(s.at_s for s in survival(times) if s.share <= 0.5) == 23
    assert median.low == next(s.at_s for s in survival(times) if s.low is not None and s.low <= 0.5)


def test_nobody_down_at_the_end_has_no_limits_and_no_times_no_curve() -> None:
    last = survival([(3.0, True), (4.0, True)])[-1]
    assert (last.share, last.low, last.high) == (0, None, None)
    assert survival([]) == []
    assert {s.share for s in survival([(300.0, False)] * 4)} == {1.0}


@pytest.mark.parametrize("time", [-1.0, float("inf"), float("nan")])
def test_an_impossible_time_is_named(time: float) -> None:
    with pytest.raises(ValueError, match="allowed: finite and at least 0"):
        survival([(time, True)])
