"""What the probe asks: every cell once, in an order that a crash cannot change, no more than it needs."""

import json
import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from reports.probe.asks import ATTRIBUTION, CAPACITY, CURE, ESCAPE, FRONTIER, PHASES, PLACEBO, PULSE, STAIRCASE, Answer, Ask
from reports.probe.findings import Arm
from reports.probe.plan import ProbePlan
from reports.probe.protocol import next_asks
from tests.reports.probe.fake_world import ALWAYS, NEVER, World, probed
from tests.reports.probe.plans import DEFAULT, ONE, PULSES

SMALL = replace(
    DEFAULT,
    routers=("round_robin", "consistent_hash"),
    guards=("none", "queue cap"),
    fractions=(0.5, 0.9),
    pulses=PULSES[:2],
    cures=("queue cap", "breaker"),
    placebo_seeds=4,
    pulse_seeds=2,
    frontier_tries=6,
    cure_seeds=4,
)


def survives(arm: Arm, variant: str, load_rps: float, length_s: float) -> float:
    """Without guards dead work keeps an arm down, a cap cures every arm, a retry budget survives 4×."""
    if arm[1] == "none":
        return 6.0 if variant == "cancel" else 3.4 - load_rps / 15
    return 4.0 if arm[1] == "retry budget" else ALWAYS


@pytest.fixture(scope="module")
def whole() -> tuple[World, list[Answer]]:
    world = World(survives)
    return world, probed(DEFAULT, world)


@pytest.fixture(scope="module")
def small() -> list[Answer]:
    return probed(SMALL, World(survives))


def test_the_default_probe_asks_for_2000_to_3500_cells_of_every_phase(whole: tuple[World, list[Answer]]) -> None:
    asked = Counter(answer.ask.phase for answer in whole[1])
    assert 2000 <= asked.total() <= 3500
    assert set(asked) == set(PHASES)


def test_five_loads_with_fewer_placebo_seeds_stay_within_the_same_count() -> None:
    plan = replace(DEFAULT, fractions=(0.5, 0.6, 0.7, 0.8, 0.9), placebo_seeds=8)
    assert 2000 <= len(probed(plan, World(survives))) <= 3500


def test_no_cell_is_asked_for_twice(whole: tuple[World, list[Answer]]) -> None:
    world, _ = whole
    assert len(set(world.asked)) == len(world.asked)


def test_placebo_runs_of_an_arm_and_load_come_before_its_judged_cells(whole: tuple[World, list[Answer]]) -> None:
    calm: Counter[tuple[str, str, str, float]] = Counter()
    for ask in whole[0].asked:
        row = (ask.router, ask.guard, ask.variant, ask.load_rps)
        if ask.phase == PLACEBO:
            calm[row] += 1
        elif ask.phase in (PULSE, FRONTIER, ATTRIBUTION, CURE):
            assert calm[row] >= DEFAULT.band_seeds


def test_arms_are_paired_by_seed(whole: tuple[World, list[Answer]]) -> None:
    rows: dict[tuple[str, str, str, float, str], list[Ask]] = defaultdict(list)
    for ask in whole[0].asked:
        rows[ask.phase, ask.router, ask.guard, ask.load_rps, ask.variant].append(ask)
    for (phase, router, guard, load_rps, variant), asks in rows.items():
        if phase in (FRONTIER, PLACEBO):
            assert [ask.seed for ask in asks] == list(range(1, len(asks) + 1))
        if phase == ATTRIBUTION and variant:
            stuck = Counter(ask.trigger for ask in asks).most_common(1)[0][0]
            baseline = {ask.seed for ask in rows[phase, router, guard, load_rps, ""] if ask.trigger == stuck}
            assert {1, 2, 3, 4, 5} <= {ask.seed for ask in asks if ask.trigger == stuck}
            assert baseline == set(range(1, 11))


def test_the_order_of_the_answers_does_not_matter(small: list[Answer]) -> None:
    draw = random.Random(2)
    for _ in range(20):
        part = draw.sample(small, draw.randrange(len(small)))
        asks = next_asks(SMALL, part)
        assert asks == next_asks(SMALL, sorted(part, key=lambda answer: answer.cell_id))
        assert len(set(asks)) == len(asks)


def test_a_probe_broken_off_anywhere_ends_with_the_same_cells(small: list[Answer]) -> None:
    draw = random.Random(3)
    whole = {answer.ask for answer in small}
    for part in [small[: draw.randrange(len(small))] for _ in range(6)] + [draw.sample(small, len(small) // 2) for _ in range(6)]:
        assert {answer.ask for answer in probed(SMALL, World(survives), part)} == whole


@pytest.mark.parametrize(
    ("phase", "needs"),
    [
        (CAPACITY, set()),
        (PLACEBO, set()),
        (PULSE, {PLACEBO}),
        (FRONTIER, {PLACEBO}),
        (STAIRCASE, set()),
        (ESCAPE, {PLACEBO, FRONTIER}),
        (ATTRIBUTION, {PLACEBO, FRONTIER}),
        (CURE, {PLACEBO}),
    ],
)
def test_a_phase_alone_asks_for_what_it_needs_and_no_more(phase: str, needs: set[str]) -> None:
    answers = probed(replace(SMALL, phases=(phase,)), World(survives))
    assert {answer.ask.phase for answer in answers} == {phase, *needs}


def test_an_unknown_phase_is_refused() -> None:
    with pytest.raises(ValueError, match=r"probe\.phases: 'fronteer' is no phase; allowed: capacity, placebo"):
        next_asks(replace(ONE, phases=("fronteer",)), [])


@pytest.mark.parametrize("phases", [PHASES, tuple(phase for phase in PHASES if phase != CAPACITY)])
def test_an_arm_above_its_own_capacity_is_not_probed_further(phases: tuple[str, ...]) -> None:
    plan = replace(SMALL, phases=phases)
    answers = probed(plan, World(survives, capacity_rps=lambda arm: 22.0 if arm[0] == "round_robin" else 30.0))
    above = [a.ask for a in answers if a.ask.router == "round_robin" and a.ask.load_rps == 27.0 and a.ask.phase != CAPACITY]
    assert {ask.phase for ask in above} <= {PLACEBO}
    assert len(above) == (0 if CAPACITY in phases else 2 * 3)  # beyond its capacity nothing is asked; without it, a first look
    assert any(a.ask.phase == FRONTIER and a.ask.router == "round_robin" and a.ask.load_rps == 15.0 for a in answers)


def test_void_cells_are_replaced_by_fresh_seeds_and_the_probe_still_ends() -> None:
    plan = replace(ONE, frontier_tries=8)
    tries = [answer for answer in probed(plan, World(survives, void=0.2, seed=4)) if answer.ask.phase == FRONTIER]
    void = sum(answer.verdict == "void" for answer in tries)
    assert void > 0
    assert len(tries) - void == 8
    assert len([a for a in probed(plan, World(survives, void=1.0)) if a.ask.phase == FRONTIER]) == 0  # no placebo run, no bands


def test_a_row_whose_runs_say_nothing_is_given_up_after_four() -> None:
    answers: list[Answer] = []
    while asks := next_asks(ONE, answers):
        answers += [replace(World(survives).answer(ask), recovered=None, verdict="unstable") for ask in asks]
    assert sum(answer.ask.phase == FRONTIER for answer in answers) == 4


def _tries(plan: ProbePlan, world: World) -> dict[float, list[float]]:
    sizes: dict[float, list[float]] = defaultdict(list)
    for answer in probed(plan, world):
        if answer.ask.phase == FRONTIER:
            sizes[answer.ask.load_rps].append(json.loads(answer.ask.trigger)["k"])
    return sizes


def test_an_arm_that_survives_everything_at_the_highest_load_is_only_checked_at_lower_ones() -> None:
    sizes = _tries(replace(ONE, fractions=(0.5, 0.7, 0.9)), World(lambda arm, variant, load, length: ALWAYS))
    assert len(sizes[27.0]) == 6
    assert sizes[27.0][2:] == [8.0] * 4
    assert sizes[15.0] == sizes[21.0] == [8.0, 8.0]


def test_an_arm_that_survives_nothing_at_the_lowest_load_is_only_checked_between() -> None:
    sizes = _tries(replace(ONE, fractions=(0.5, 0.7, 0.9)), World(lambda arm, variant, load, length: NEVER))
    assert sizes[21.0] == [1.25, 1.25]
    assert 4 <= len(sizes[15.0]) < ONE.frontier_tries


def test_a_check_that_turns_out_otherwise_makes_a_whole_row_of_it() -> None:
    sizes = _tries(
        replace(ONE, fractions=(0.5, 0.7, 0.9)), World(lambda arm, variant, load, length: 2.0 if load < 20 else ALWAYS)
    )
    assert sizes[15.0][0] == 8.0
    assert len(sizes[15.0]) == ONE.frontier_tries
    assert sizes[21.0] == [8.0, 8.0]


def test_a_staircase_goes_up_and_down_the_same_loads_once_and_again_only_where_they_differ() -> None:
    plan = replace(SMALL, phases=(STAIRCASE,))
    remembers = World(survives, hidden_rps=lambda arm: 15.0 if arm[1] == "none" else 100.0)
    answers = probed(plan, remembers)
    assert [factor for factor, _ in answers[0].ask.pieces] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert Counter(answer.ask.guard for answer in answers) == {"none": 6, "queue cap": 2}
    assert {answer.ask.load_rps for answer in answers} == {30.0}


def test_only_loops_that_an_arm_has_are_taken_away(whole: tuple[World, list[Answer]]) -> None:
    asked = {(ask.router, ask.guard) for ask in whole[0].asked if ask.variant == "no_affinity"}
    assert asked == {("consistent_hash", "none")}
