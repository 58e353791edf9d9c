"""Where a verdict could be unfair: too much load, capacity that stays away, nobody who asks, too little time."""

from dataclasses import replace

import numpy as np
import pytest

from reports.bands import Bands, bands
from reports.course import COLUMNS, Course
from reports.verdict import HOLD_S, Stretches, holds_slo, judge, load_back, recovery, roots_met, settled
from tests.reports.detector.truths import BACK_S, OBSERVED_S, draw


def silent(seconds: int, start_s: int = 0) -> Course:
    """Nobody asks, nothing runs."""
    return Course(start_s, *(np.zeros(seconds) for _ in COLUMNS))


def dead(number: int = 0) -> tuple[Stretches, Bands]:
    cell, calm = draw("dead", number)
    return cell.stretches(), calm


def test_an_arm_above_its_own_capacity_is_unstable_and_one_at_it_is_not() -> None:
    """1,800 roots, as 60 s at 30 rps bring: at 93% of success (C* is at 95%) hardly one seed passes, at 95% nearly all do."""
    rng = np.random.default_rng(4)
    above, at = (np.mean([holds_slo(int(rng.binomial(1800, share)), 1800) for _ in range(500)]) for share in (0.93, 0.95))
    assert above < 0.1
    assert at > 0.95
    assert not holds_slo(1600, 1800)


def test_what_counts_for_stability_is_what_is_known() -> None:
    steady = draw("placebo", 1)[0].stretches().steady
    open_still = replace(steady, succeeded=steady.succeeded * 0.5, undecided=steady.scheduled * 0.5)
    met, known = roots_met(open_still)
    assert holds_slo(met, known)
    assert not holds_slo(met, round(steady.scheduled.sum()))


def test_a_pool_that_stays_smaller_is_not_metastable() -> None:
    """The load is back and the capacity is not: no self-sustaining failure is shown."""
    cell, calm = dead()
    found = judge(replace(cell, whole_s=1e9), calm)
    assert (found.verdict, found.cause) == ("slow", f"the pool was not whole again {HOLD_S} s before the end")
    assert judge(cell, calm).verdict == "metastable"
    assert judge(replace(cell, whole_s=BACK_S + 100.0), calm).verdict == "metastable"  # whole for 200 s, and still down


def test_a_pool_that_carries_the_load_without_what_it_lost_has_recovered() -> None:
    cell, calm = draw("recovered", 0)
    assert judge(replace(cell.stretches(), whole_s=1e9), calm).verdict == "recovered"


def test_how_the_queue_moved_while_capacity_was_away_is_no_trend() -> None:
    """It grew until the replica was back and has shrunk since: slow."""
    cell, calm = dead()
    t = np.arange(OBSERVED_S, dtype=np.float64)
    waiting = np.where(t < 240, 40 + 4 * t, 1000 - 12 * (t - 240))
    shrinking = replace(cell, after=replace(cell.after, waiting=waiting))
    assert judge(shrinking, calm).verdict == "metastable"
    assert judge(replace(shrinking, whole_s=BACK_S + 240.0), calm).verdict == "slow"


def test_when_nobody_asks_any_more_nothing_is_shown() -> None:
    """Neither recovered nor metastable: every session has quit, and the pool idles."""
    cell, calm = draw("recovered", 0)
    after = silent(OBSERVED_S, BACK_S)
    found = judge(replace(cell.stretches(), after=after), calm)
    assert (found.verdict, found.recovery_s, found.cause) == ("slow", None, "no request came due after the trigger")
    assert not settled(after, calm)


def test_a_pool_without_any_arrivals_is_neither_stable_nor_recovered() -> None:
    calm = bands([silent(60)])
    after = silent(OBSERVED_S, BACK_S)
    assert roots_met(after) == (0, 0)
    assert recovery(after, calm, HOLD_S) is None
    assert judge(Stretches(silent(60), after, silent(30)), calm).verdict == "slow"
    with pytest.raises(ValueError, match="n > 0"):
        holds_slo(0, 0)


def test_work_that_stays_when_nobody_asks_is_a_deadlock() -> None:
    cell, calm = draw("deadlock", 0)
    found = judge(replace(cell.stretches(), after=silent(OBSERVED_S, BACK_S)), calm)
    assert found.verdict == "deadlock"


@pytest.mark.parametrize("seconds", [0, 1, 10, HOLD_S - 1])
def test_too_short_a_look_condemns_nobody(seconds: int) -> None:
    cell, calm = draw("dead", 3)
    found = judge(cell.stretches(seconds), calm)
    assert found.verdict is None
    assert found.recovery_s is None
    assert found.cause is not None


@pytest.mark.parametrize("seconds", [60, 150, OBSERVED_S])
def test_what_did_not_recover_is_censored_at_what_was_observed(seconds: int) -> None:
    for number in range(20):
        cell, calm = draw("dead", number)
        found = judge(cell.stretches(seconds), calm)
        assert (found.recovery_s, found.censored_s, found.clock_start_s) == (None, float(seconds), float(BACK_S))


def test_the_time_before_the_load_is_back_is_not_observed() -> None:
    cell, calm = dead()
    more = cell.after.scheduled.copy()
    more[:50] *= 4
    late = replace(cell.after, scheduled=more, succeeded=np.minimum(cell.after.succeeded, more))
    clock = load_back(late, calm)
    assert clock is not None
    assert 20 < clock <= 50
    assert judge(replace(cell, after=late), calm).censored_s == OBSERVED_S - clock


def test_a_relapse_at_the_very_end_is_a_relapse_if_it_lasts() -> None:
    """Ten bad seconds at the end are noise to a run that held for four minutes; twenty are not."""
    cell, calm = draw("recovered", 2)
    whole = cell.stretches()
    for bad_s, back in ((10, True), (20, False)):
        succeeded = whole.after.succeeded.copy()
        succeeded[-bad_s:] = 0
        found = judge(replace(whole, after=replace(whole.after, succeeded=succeeded)), calm)
        assert (found.recovery_s is not None) is back, (bad_s, found)
