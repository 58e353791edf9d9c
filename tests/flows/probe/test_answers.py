"""What is made of a round's answers does not depend on the order in which they came; placebo runs are judged by the others."""

import random

import pytest

from flows.probe.answers import Heard
from flows.probe.run_cell import run_cell
from flows.run_folder import RunFolder
from reports.probe.asks import Answer
from tests.flows.probe.scenes import ask, calm, scene, study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    made = RunFolder(tmp_path_factory.mktemp("run"))
    made.cells.mkdir()
    return made


@pytest.fixture(scope="module")
def placebos(folder: RunFolder) -> list[Answer]:
    return calm(scene(folder.cells), seeds=4)


def test_placebo_runs_are_judged_by_the_other_seeds(folder: RunFolder, placebos: list[Answer]) -> None:
    heard = Heard(study(), folder)
    heard.add(placebos)
    assert [answer.false_alarm for answer in heard.answers] == [False] * 4


def test_one_run_alone_is_not_judged(folder: RunFolder, placebos: list[Answer]) -> None:
    heard = Heard(study(), folder)
    heard.add(placebos[:1])
    assert [answer.false_alarm for answer in heard.answers] == [None]


def test_a_run_unlike_the_others_is_an_alarm(folder: RunFolder, placebos: list[Answer]) -> None:
    """Its own seconds are not among those it is judged by: a disturbed run passed off as calm is found out."""
    from dataclasses import replace

    stuck = run_cell(scene(folder.cells), ask("cure", k=5.0), tuple(answer.cell_id for answer in placebos))
    assert stuck.verdict == "metastable"
    odd = replace(stuck, ask=ask("placebo", seed=9), verdict="calm")
    heard = Heard(study(), folder)
    heard.add([*placebos, odd])
    assert {answer.ask.seed: answer.false_alarm for answer in heard.answers}[9] is True


def test_order_and_rounds_do_not_matter(folder: RunFolder, placebos: list[Answer]) -> None:
    at_once = Heard(study(), folder)
    at_once.add(placebos)
    shuffled = random.Random(1).sample(placebos, 4)
    by_turns = Heard(study(), folder)
    for answer in shuffled:
        by_turns.add([answer])
    assert by_turns.answers == at_once.answers


def test_a_judged_cell_is_held_against_the_calm_ones_of_its_arm_and_load(folder: RunFolder, placebos: list[Answer]) -> None:
    heard = Heard(study(), folder)
    heard.add(placebos)
    expected = tuple(sorted(answer.cell_id for answer in placebos))
    assert heard.calm_cells(ask("frontier", k=2.0)) == expected
    assert heard.calm_cells(ask("attribution", k=2.0)) == expected
    assert heard.calm_cells(ask("frontier", k=2.0, load_rps=7.0)) == ()
    assert heard.calm_cells(ask("frontier", k=2.0, variant="cancel")) == ()
    assert heard.calm_cells(ask("placebo", seed=9)) == (), "which is not judged by bands"
    assert heard.calm_cells(ask("escape", pieces=((1.0, 30.0),))) == ()
