"""Arms take turns on a live pool so that none always comes first, or always after the same other."""

from collections import Counter
from itertools import pairwise

import pytest

from flows.order import balanced_order


def mean_places(rows: list[list[int]]) -> dict[int, float]:
    places: dict[int, list[int]] = {}
    for row in rows:
        for place, arm in enumerate(row):
            places.setdefault(arm, []).append(place)
    return {arm: sum(at) / len(at) for arm, at in places.items()}


def followers(rows: list[list[int]]) -> Counter[tuple[int, int]]:
    return Counter(pair for row in rows for pair in pairwise(row))


@pytest.mark.parametrize("arms", range(1, 10))
def test_every_block_runs_every_arm_once(arms: int) -> None:
    for row in balanced_order(arms, 7):
        assert sorted(row) == list(range(arms))


@pytest.mark.parametrize("arms", range(1, 10))
@pytest.mark.parametrize("blocks", [2, 4, 6])
def test_after_every_second_block_each_arm_has_come_as_early_as_late(arms: int, blocks: int) -> None:
    assert set(mean_places(balanced_order(arms, blocks)).values()) == {(arms - 1) / 2}


@pytest.mark.parametrize("arms", range(2, 10))
def test_over_a_whole_design_each_arm_follows_each_other_equally_often_and_stands_everywhere(arms: int) -> None:
    rows = balanced_order(arms, arms if arms % 2 == 0 else 2 * arms)
    times = 1 if arms % 2 == 0 else 2
    assert followers(rows) == {(a, b): times for a in range(arms) for b in range(arms) if a != b}
    for place in range(arms):
        assert Counter(row[place] for row in rows) == dict.fromkeys(range(arms), times)


@pytest.mark.parametrize("arms", range(3, 10))
def test_a_few_blocks_repeat_no_neighbours_before_they_must(arms: int) -> None:
    """Two blocks: each pair of neighbours once in each direction; naive repetition has them twice in one."""
    assert max(followers(balanced_order(arms, 2)).values()) == 1
    assert max(followers([list(range(arms))] * 2).values()) == 2


def test_the_order_is_a_pure_function_and_needs_an_arm() -> None:
    assert balanced_order(4, 3) == [[0, 1, 3, 2], [2, 3, 1, 0], [1, 2, 0, 3]]
    with pytest.raises(ValueError, match="arms = 0"):
        balanced_order(0, 1)
