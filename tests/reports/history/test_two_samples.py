"""Tests without pairs, against scipy.stats."""

import numpy as np
import pytest

from reports.history.two_samples import fisher_exact, welch


def test_welch_is_scipys() -> None:
    from scipy import stats

    draw = np.random.default_rng(1)
    for n, m in ((2, 3), (5, 5), (3, 12)):
        a, b = draw.normal(0.3, 1, n), draw.normal(0, 3, m)
        theirs = stats.ttest_ind(a, b, equal_var=False)
        ours = welch(list(a), list(b))
        assert ours.p == pytest.approx(theirs.pvalue)
        assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))


def test_welch_without_spread_is_certain_and_of_single_values_says_no_p() -> None:
    assert welch([2.0, 2.0], [1.0, 1.0]).p == 0.0
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert welch([2.0], [1.0, 1.5]).p is None
    with pytest.raises(ValueError, match="at least one"):
        welch([], [1.0])


def test_fisher_is_scipys() -> None:
    from scipy import stats

    for table in ((3, 3, 0, 3), (0, 5, 5, 5), (2, 7, 5, 6), (1, 1, 0, 1), (4, 9, 1, 20)):
        one, of_one, other, of_other = table
        theirs = stats.fisher_exact(np.array([[one, of_one - one], [other, of_other - other]])).pvalue
        assert fisher_exact(*table) == pytest.approx(theirs)
    with pytest.raises(ValueError, match="allowed"):
        fisher_exact(4, 3, 0, 3)
