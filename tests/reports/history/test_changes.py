"""The night's judge, over hundreds of simulated histories with known truth."""

import numpy as np
import pytest

from reports.history.changes import LEARN, judge

NIGHTS, AT, CV = 60, 30, 0.03
HISTORIES = 200


def nights(seed: int, step: float = 0.0, level: float = 0.4) -> list[float]:
    draw = np.random.default_rng(seed)
    values = level * np.exp(draw.normal(0.0, CV, NIGHTS))
    values[AT:] *= 1 + step
    return [float(v) for v in values]


def test_a_step_of_eight_per_cent_is_found_within_three_nights_at_the_median() -> None:
    delays = []
    for seed in range(HISTORIES):
        after = [c for c in judge(nights(seed, 0.08)).changes if c.found >= AT]
        delays.append(after[0].found - AT + 1 if after else NIGHTS)
    assert np.median(delays) <= 3
    assert np.mean(np.array(delays) <= 8) >= 0.97


def test_unchanged_nights_hardly_ever_alarm() -> None:
    alarms = [len(judge(nights(seed)).changes) for seed in range(HISTORIES)]
    assert np.mean(np.array(alarms) <= 1) >= 0.99
    assert np.mean(alarms) <= 0.05


def test_forty_series_side_by_side_are_sure_of_nothing_in_unchanged_nights() -> None:
    sure = sum(c.grade == "sure" for seed in range(10 * 40) for c in judge(nights(1000 + seed), series=40).changes)
    assert sure / 10 <= 0.2, "false alarms in a history of 40 series"


def test_a_large_step_is_sure_among_forty_series_within_four_nights() -> None:
    delays = []
    for seed in range(HISTORIES):
        sure = [c for c in judge(nights(seed, 0.20), series=40).changes if c.grade == "sure" and c.found >= AT]
        delays.append(sure[0].found - AT + 1 if sure else NIGHTS)
    assert np.median(delays) <= 4


def test_the_size_of_a_step_is_within_its_limits_as_often_as_they_say() -> None:
    inside = []
    for seed in range(HISTORIES):
        found = [c for c in judge(nights(seed, 0.08)).changes if abs(c.night - AT) <= 1]
        if found and found[0].low is not None and found[0].high is not None:
            inside.append(found[0].low <= 1.08 <= found[0].high)
    assert len(inside) >= 0.6 * HISTORIES
    assert np.mean(inside) >= 0.9


def test_the_night_of_the_change_is_the_night_of_the_change() -> None:
    firsts = [c.night for seed in range(HISTORIES) for c in judge(nights(seed, 0.15)).changes if c.found >= AT]
    assert np.median(firsts) == AT


def test_one_odd_night_is_an_outlier_and_no_change() -> None:
    values = nights(3)
    values[40] *= 1.6
    told = judge(values)
    assert told.changes == ()
    assert told.outliers == (40,)


def test_a_level_that_comes_back_is_two_changes() -> None:
    values = nights(5, 0.2)
    values[45:] = [v / 1.2 for v in values[45:]]
    up, down = judge(values).changes
    assert (up.night, down.night) == (AT, 45)
    assert up.ratio > 1.1 > 0.95 > down.ratio


def test_missing_nights_are_no_nights() -> None:
    values: list[float | None] = [*nights(7, 0.15)]
    values[AT + 1] = values[10] = None
    assert [c.night for c in judge(values).changes] == [AT]


def test_a_pool_that_repeats_itself_exactly_alarms_at_no_rounding() -> None:
    assert judge([0.4] * 20 + [0.4008] * 20).changes == ()
    changed = judge([0.4] * 20 + [0.44] * 20).changes
    assert [c.night for c in changed] == [20]
    assert changed[0].ratio == pytest.approx(1.1)


def test_the_first_nights_only_teach() -> None:
    assert judge([0.4, 0.8, 0.4, 0.8, 0.1, 0.9][:LEARN]).changes == ()
    assert judge([]).changes == ()


def test_a_likely_change_becomes_sure_as_nights_go_by() -> None:
    early = late = 0
    for seed in range(50):
        values = nights(seed, 0.06)
        found = [[c.grade for c in judge(values[:n], series=40).changes if c.found >= AT] for n in (AT + 6, NIGHTS)]
        early, late = early + ("sure" in found[0]), late + ("sure" in found[1])
    assert early <= 25
    assert late >= 1.5 * early


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_that_has_no_logarithm_is_named(bad: float) -> None:
    with pytest.raises(ValueError, match=r"values\[1\]"):
        judge([1.0, bad])
