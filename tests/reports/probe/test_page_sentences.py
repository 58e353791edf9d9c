"""The probe's sentences say what the findings hold, censored sizes, singular and plural included."""

from dataclasses import replace
from typing import Any

import pytest

from reports.probe import sentences
from reports.probe.findings import Attribution, Cause, Cure, Drain, FalseAlarms, Findings, FrontierPoint
from reports.probe.scene import ProbeScene, evidence, scene_of
from reports.probe.trigger_words import words
from tests.reports.probe.test_tables import ANSWER

STUDY: dict[str, Any] = {
    "routers": ["round_robin", "power_of_two"],
    "guards": ["none", "retry budget"],
    "probe": {"wanted": {"k": 4, "fraction": 0.7}},
}
TRIES = ((1.25, True), (8.0, False))


def point(router: str, guard: str, k: float | None, **more: Any) -> FrontierPoint:
    low, high = (None, None) if k is None else (0.9 * k, 1.1 * k)
    given: dict[str, Any] = {"low": low, "high": high, "tries": TRIES, "recovery": (), "cells": ("0",), **more}
    return FrontierPoint(
        (router, guard), 0.7, 21.0, 20.0, more.pop("stable", True), k, **{k: v for k, v in given.items() if k != "stable"}
    )


DEADLY = point("round_robin", "none", 2.3, deadly_k=2.6, deadly_down=9, deadly_runs=10)
BEST = point("power_of_two", "retry budget", 5.0)


def scene(*points: FrontierPoint, **findings: Any) -> ProbeScene:
    cells = [
        replace(ANSWER, cell_id=str(i), ask=replace(ANSWER.ask, router=r, guard=g, phase="frontier"))
        for i, (r, g) in enumerate((r, g) for r in STUDY["routers"] for g in STUDY["guards"])
    ]
    return scene_of(
        Findings(30.0, findings.pop("false_alarms", FalseAlarms(3, 200, 0.005, 0.043)), frontier=points, **findings), cells, STUDY
    )


def test_the_sentence_of_the_manager() -> None:
    found = sentences.headline(scene(DEADLY, BEST, point("power_of_two", "none", 3.0)))
    assert found == (
        "At 70% load (21 req/s), round_robin stays down after a 2.6× burst of 20 s in 9 of 10 runs; power_of_two with “retry "
        "budget” survives 5× (90% interval 4.5–5.5×)."
    )


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([replace(DEADLY, deadly_down=10, deadly_larger=True), BEST], "after bursts of 2.6× or more for 20 s in all 10 runs"),
        ([replace(DEADLY, deadly_k=None), BEST], "round_robin survives 2.3× (90% interval 2.1–2.5×); power_of_two"),
        ([DEADLY, replace(BEST, k=None, low=6.0, high=None)], "of more than 8×, the largest tried (90% interval from 6×)."),
        ([DEADLY, BEST, replace(BEST, arm=("round_robin", "retry budget"))], "interval 4.5–5.5×), and so does one other arm."),
        ([replace(DEADLY, stable=False)], "no router with any guard set carries the load even without a burst."),
        ([replace(DEADLY, k=None, low=7.0), replace(BEST, k=None, low=7.0)], "every arm that was tried comes back from"),
        ([replace(DEADLY, stable=False), replace(BEST, low=None)], "survives 5× (90% interval below 1.25× to 5.5×)"),
        ([], "The frontier was not asked for"),
    ],
)  # fmt: skip
def test_the_headline_in_other_cases(points: list[FrontierPoint], said: str) -> None:
    assert said in sentences.headline(scene(*points))


CAUSE = Cause(("round_robin", "none"), 0.7, 21.0, 20.0, 2.6, 9, 10, ("dead work",), ("with a cap",), "dead work", ("0",))
RESTORING = Attribution(
    ("round_robin", "none"),
    0.7,
    "{}",
    "cancel",
    "dead work",
    "with timed-out requests cancelled",
    1,
    10,
    5,
    5,
    0.001,
    True,
    4.5,
    ("0",),
)


def test_the_cause_is_named_with_what_restored_it_and_how_far() -> None:
    found = sentences.why(scene(DEADLY, BEST, causes=(CAUSE,), attributions=(RESTORING,)))
    assert found == (
        "Why round_robin stays down: dead work. With timed-out requests cancelled it comes back in all 5 runs after the same "
        "2.6× burst instead of 1 of 10, and survives up to 4.5×."
    )


def test_the_verdict_names_its_cells() -> None:
    found = scene(replace(DEADLY, cells=("0", "1")), BEST, causes=(replace(CAUSE, cells=("3",)),), attributions=(RESTORING,))
    wanted = evidence(found, ("0", "1")), evidence(found, ("3",))
    assert sentences.rests_on(found) == (
        f"Evidence: the first sentence on cells {wanted[0]} and the cause on cells {wanted[1]}; the last section lists them all."
    )
    assert sentences.rests_on(scene()) == ""


def test_a_cause_that_was_not_found_is_said() -> None:
    unknown = replace(CAUSE, causes=(), restored_by=(), words="not found by removing any one loop")
    found = sentences.why(scene(DEADLY, BEST, causes=(unknown,), attributions=(replace(RESTORING, restores=False),)))
    assert found == "Why round_robin stays down was not found by removing any one loop."
    assert sentences.why(scene(DEADLY, BEST)) == ""


CURE = Cure("round_robin", "retry budget", 10, 10, 0.72, 1.0, True, True, 0.12, 0.05, 0.2, 0.03, ("0",), -0.01, 0.07)


def test_the_cheapest_guard_set_is_named_once_with_the_cost_that_can_be_told() -> None:
    other = replace(CURE, router="power_of_two", recovered=9, goodput_cost_rps=0.3, goodput_cost_low=0.1)
    assert sentences.recommendation(scene(DEADLY, cures=(CURE, other))) == [
        "“retry budget” is the cheapest for round_robin and power_of_two: back in 19 of 20 runs; on a normal day it costs 0.12 "
        "to 0.3 req/s of goodput and nothing in TTFT p99 that can be told from chance."
    ]


def test_costs_that_cannot_be_told_from_chance_are_one_word() -> None:
    (found,) = sentences.recommendation(scene(DEADLY, cures=(replace(CURE, goodput_cost_low=-0.1),)))
    assert found.endswith("back in 10 of 10 runs; on a normal day it costs nothing that can be told from chance.")


def test_no_guard_needed_and_no_guard_enough_are_said() -> None:
    bare = replace(CURE, guard="none")
    failing = replace(CURE, router="power_of_two", recommended=False, reaches=False, recovered=4)
    assert sentences.recommendation(scene(DEADLY, cures=(bare, failing))) == [
        "round_robin needs no guard: back in 10 of 10 runs.",
        "None of 1 guard set is enough for power_of_two; the best, “retry budget”, brought it back in 4 of 10 runs.",
    ]


def test_how_sure_names_runs_and_false_alarms() -> None:
    assert sentences.how_sure(scene(DEADLY)) == (
        "How sure: 4 runs in all; survived sizes carry 90% credible intervals; of 200 calm runs without any trigger the "
        "detector would have called 3 disturbed (1.5%, 95% 0.5% to 4.3%)."
    )
    assert "was not measured" in sentences.how_sure(scene(DEADLY, false_alarms=FalseAlarms(0, 0, 0.0, 1.0)))


def test_work_left_in_the_drain_is_counted() -> None:
    clean = scene(DEADLY, drains=(Drain(3, 0, 0, ("0",)),))
    assert sentences.drained(clean) == [
        "In all 4 runs the engines were empty when the drain ended, 3 that had not come back among them: their load holds them "
        "down. No deadlock, no leak."
    ]
    stuck = replace(clean, cells=(replace(clean.cells[0], left_in_drain=7), *clean.cells[1:]))
    stuck = replace(stuck, findings=replace(stuck.findings, drains=(Drain(3, 1, 1, ("0",)),)))
    assert sentences.drained(stuck) == [
        "In 1 of 4 runs work was left in the engines when the drain ended.",
        "Of 3 runs that did not come back, 1 still had work then, 1 of them deadlocks (work that does not move) (cells 3).",
    ]


def test_evidence_is_ranges_of_numbers_and_unknown_cells_fail() -> None:
    found = scene(DEADLY)
    assert evidence(found, [a.cell_id for a in found.cells]) == "1–4"
    assert evidence(found, [found.cells[i].cell_id for i in (0, 2, 3)]) == "1, 3–4"
    with pytest.raises(ValueError, match="cell 'nobody' is named as evidence and is not in table answers"):
        evidence(found, ["nobody"])


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ('{"kind": "spike", "k": 2.5, "d_s": 20.0}', "a 2.5× burst of 20 s"),
        ('{"kind": "kill", "replica_id": 0, "d_s": 20}', "replica 0 lost for 20 s, cold return"),
        ('{"kind": "flush", "replica_id": null}', "the cache of every replica emptied"),
        ('{"kind": "refuse", "share": 1.0, "status": 503, "d_s": 5}', "every replica refusing 100% with 503 for 5 s"),
        ('{"kind": "meteor", "size": 3}', "meteor (size 3)"),
    ],
)
def test_triggers_in_words(trigger: str, said: str) -> None:
    assert words(trigger) == said


@pytest.mark.parametrize("trigger", ["no json", "[]", '{"k": 3}'])
def test_what_is_no_trigger_is_named(trigger: str) -> None:
    with pytest.raises(ValueError, match="allowed: an object with kind, d_s and its parameters"):
        words(trigger)
