"""The survived size: found where the truth is known, with intervals that cover it."""

import numpy as np
import pytest

from reports.frontier import LEVEL, SURVIVES, Sizes, next_size, probability, survived


def searched(rng: np.random.Generator, threshold: float, slope: float, tries: int) -> list[tuple[float, bool]]:
    """An adaptive search of an arm whose recovery is logistic in ln k."""
    done: list[tuple[float, bool]] = []
    for _ in range(tries):
        k, _ = next_size(done)
        done.append((k, bool(rng.random() < 1 / (1 + (k / threshold) ** (1 / slope)))))
    return done


def test_intervals_cover_the_truth_and_shrink() -> None:
    rng = np.random.default_rng(3)
    covered, spreads = 0, dict[int, list[float]]({12: [], 40: []})
    for _ in range(150):
        threshold, slope = rng.uniform(1.6, 6.0), rng.uniform(0.03, 0.2)
        truth = threshold * (SURVIVES / (1 - SURVIVES)) ** -slope
        done = searched(rng, threshold, slope, 40)
        found = survived(done)
        covered += (found.low or 0.0) <= truth <= (found.high or np.inf)
        for n, seen in spreads.items():
            seen.append(survived(done[:n]).spread)
    assert LEVEL - 0.06 <= covered / 150 <= 1.0
    assert np.median(spreads[40]) < 0.75 * np.median(spreads[12])


@pytest.mark.parametrize(("always", "end"), [(True, "high"), (False, "low")])
def test_an_arm_that_always_or_never_comes_back_is_beyond_the_sizes(always: bool, end: str) -> None:
    done: list[tuple[float, bool]] = []
    for _ in range(20):
        done.append((next_size(done)[0], always))
    found = survived(done)
    assert getattr(found, end) is None
    assert (found.k is None) or (found.k > 6 if always else found.k < 1.6)
    assert max(k for k, _ in done) == 8.0 if always else min(k for k, _ in done) == 1.25


def test_the_recovery_probability_falls_with_size_and_has_an_interval() -> None:
    rng = np.random.default_rng(5)
    found = probability(searched(rng, 3.0, 0.1, 40), [1.5, 3.0, 6.0])
    assert [low <= mean <= high for low, mean, high in found] == [True] * 3
    assert found[0][1] > 0.9 > found[1][1] > 0.1 > found[2][1]


def test_the_next_size_is_a_function_of_the_tries_whatever_their_order() -> None:
    tries = [(2.0, True), (4.0, False), (2.83, True)]
    assert next_size(tries) == pytest.approx(next_size(tries[::-1]))
    assert next_size(tries)[0] in Sizes().values()
    assert next_size([])[1] > next_size(tries)[1] > 0
