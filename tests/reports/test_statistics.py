"""Intervals and tests over seeds, against published examples and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import holm, kaplan_meier_median, paired_t, t_interval, wilson

# Student's sleep data (1908): extra hours under two drugs, ten people.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

# Freireich et al. (1963), 6-mercaptopurine arm: weeks of remission.
RELAPSED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
IN_REMISSION = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]


def test_a_t_interval_is_scipys() -> None:
    found = t_interval(DRUG_1)
    low, high = stats.t.interval(0.95, 9, loc=sum(DRUG_1) / 10, scale=stats.sem(DRUG_1))
    assert (found.mean, found.low, found.high) == pytest.approx((0.75, low, high))


def test_one_seed_has_no_interval_and_none_has_no_mean() -> None:
    assert t_interval([3.0]).mean == 3.0
    assert t_interval([3.0]).low is None
    assert t_interval([]).mean is None


def test_paired_t_gives_students_published_result() -> None:
    found = paired_t(DRUG_2, DRUG_1)  # t = 4.0621, df = 9, p = 0.002833, 95% interval 0.7001 … 2.4599
    assert found.pairs == 10
    assert found.difference == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858))
    assert found.p == pytest.approx(0.00283289, abs=1e-7)


def test_pairs_that_differ_by_a_constant_need_no_spread() -> None:
    assert paired_t([2.0, 3.0], [1.0, 2.0]).p == 0.0
    assert paired_t([2.0, 3.0], [2.0, 3.0]).p == 1.0
    assert paired_t([2.0], [1.0]).p is None


@pytest.mark.parametrize(("values", "reference"), [([], []), ([1.0], [1.0, 2.0])])
def test_unpaired_values_are_refused(values: list[float], reference: list[float]) -> None:
    with pytest.raises(ValueError, match="equally many"):
        paired_t(values, reference)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # Wikipedia's example: 4·.005, 3·.01, 2·.03, max(.06, 1·.04)
        ([0.2, 0.9], [0.4, 0.9]),
        ([0.6, 0.6], [1.0, 1.0]),  # never above 1
        ([], []),
    ],
)
def test_holm(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(p_values) == pytest.approx(adjusted)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (10, 10, 0.7225, 1.0),  # METASTABILITY: 10 of 10 shows at least .72
        (30, 30, 0.8865, 1.0),  # 30 of 30 at least .89
        (0, 10, 0.0, 0.2775),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Table I, method 3
    ],
)
def test_wilson(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_refuses_more_successes_than_tries() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_the_median_remission_is_the_published_one() -> None:
    found = kaplan_meier_median(RELAPSED, IN_REMISSION)  # R survfit, conf.type = "log-log": 23, 13, NA
    assert (found.mean, found.low, found.high) == (23, 13, None)


def test_a_censored_median_is_none_and_never_the_horizon() -> None:
    assert kaplan_meier_median([5.0], [90.0, 90.0]).mean is None
    assert kaplan_meier_median([], [90.0]).mean is None


def test_without_censoring_it_is_the_sample_median() -> None:
    found = kaplan_meier_median([9.0, 5.0, 8.0], [])
    assert found.mean == 8.0
    assert found.low == 5.0
    assert found.high is None or not math.isnan(found.high)


@pytest.mark.parametrize("seed", range(5))
def test_shares_and_survival_agree_with_scipy(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 60))
    k = int(draw.integers(0, n + 1))
    limits = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert (wilson(k, n).low, wilson(k, n).high) == pytest.approx((limits.low, limits.high))

    observed, censored = draw.integers(1, 40, 30).astype(float), draw.integers(20, 60, 15).astype(float)
    survival = stats.ecdf(stats.CensoredData(uncensored=observed, right=censored)).sf
    limits_of = survival.confidence_interval(0.95, method="log-log")
    curves = [survival.probabilities, limits_of.low.probabilities, limits_of.high.probabilities]  # type: ignore[attr-defined]
    expected = [next((t for t, s in zip(survival.quantiles, curve, strict=True) if s <= 0.5), None) for curve in curves]
    found = kaplan_meier_median(list(observed), list(censored))
    assert [found.mean, found.low, found.high] == expected
