"""One ask, run and judged: what comes back, what it rests on, and when it is run again."""

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.probe.evidence import read_course
from flows.probe.run_cell import Scene, run_cell
from reports.probe.asks import Answer
from tests.flows.probe.scenes import ask, calm, scene


@pytest.fixture(scope="module")
def a_scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene(tmp_path_factory.mktemp("cells"))


@pytest.fixture(scope="module")
def quiet(a_scene: Scene) -> tuple[str, ...]:
    return tuple(answer.cell_id for answer in calm(a_scene))


@pytest.fixture(scope="module")
def safe(a_scene: Scene, quiet: tuple[str, ...]) -> Answer:
    return run_cell(a_scene, ask(k=1.5), quiet)


@pytest.fixture(scope="module")
def deadly(a_scene: Scene, quiet: tuple[str, ...]) -> Answer:
    return run_cell(a_scene, ask(k=5.0), quiet)


def test_a_small_burst_is_over_and_the_run_stops_there(safe: Answer) -> None:
    assert (safe.verdict, safe.recovered, safe.censored_s) == ("recovered", True, None)
    assert safe.recovery_s is not None
    assert safe.recovery_s < 60
    assert 75 <= safe.observed_s < 200, "held, and no longer"
    assert safe.left_in_drain == 0
    assert safe.amplification == pytest.approx(1.0, abs=0.05)


def test_a_large_one_is_deadly_and_is_watched_for_as_long_as_the_protocol_says(deadly: Answer) -> None:
    assert (deadly.verdict, deadly.recovered, deadly.recovery_s) == ("metastable", False, None)
    assert deadly.observed_s >= 300
    assert deadly.censored_s == deadly.observed_s
    assert deadly.amplification is not None
    assert deadly.amplification > 3
    assert deadly.waste is not None
    assert deadly.waste > 0.8
    assert deadly.left_in_drain > 100


def test_what_was_lost_is_what_a_calm_run_would_have_served(safe: Answer, deadly: Answer) -> None:
    assert deadly.lost_goodput is not None
    assert safe.lost_goodput is not None
    assert deadly.lost_goodput > 0.8 * 9.8 * deadly.observed_s
    assert safe.lost_goodput < 0.1 * deadly.lost_goodput


def test_a_calm_run_is_not_judged_and_shows_a_normal_day(a_scene: Scene) -> None:
    answer = run_cell(a_scene, ask("placebo"), ())
    assert (answer.verdict, answer.recovered, answer.observed_s) == ("calm", None, 0.0)
    assert answer.success == pytest.approx(1.0, abs=0.02)
    assert answer.calm_ttft_p50_s is not None
    assert answer.calm_ttft_p99_s is not None
    assert 0 < answer.calm_ttft_p50_s < answer.calm_ttft_p99_s < 5
    assert answer.calm_goodput_rps == pytest.approx(9.8, rel=0.25)


def test_a_judged_cell_needs_calm_ones(a_scene: Scene) -> None:
    with pytest.raises(ValueError, match=r"no calm cell at 9\.8 rps"):
        run_cell(a_scene, ask(k=2.0), ())


def test_an_arm_above_its_capacity_is_unstable_and_stops_before_the_trigger(a_scene: Scene, quiet: tuple[str, ...]) -> None:
    answer = run_cell(a_scene, ask(k=2.0, load_rps=30.0), quiet)
    assert (answer.verdict, answer.recovered) == ("unstable", None)
    course, phases = read_course(a_scene.cells / f"{answer.cell_id}.parquet")
    assert "recovery" not in phases
    assert len(course) < 45


def test_evidence_names_its_seconds_and_ends_with_the_drain(a_scene: Scene, deadly: Answer) -> None:
    course, phases = read_course(a_scene.cells / Path(deadly.evidence).name)
    assert list(dict.fromkeys(phases)) == ["warmup", "steady", "trigger", "recovery", "drain"]
    decided = phases.index("drain")
    assert decided == pytest.approx(50 + deadly.observed_s, abs=8)
    assert course.scheduled[decided + 1 :].sum() == 0
    assert course.scheduled.sum() == deadly.roots


def test_what_was_run_is_not_run_again(a_scene: Scene, safe: Answer, quiet: tuple[str, ...]) -> None:
    path = a_scene.cells / Path(safe.evidence).name
    written = path.stat().st_mtime_ns
    assert run_cell(a_scene, safe.ask, quiet) == safe
    assert path.stat().st_mtime_ns == written


def test_a_cut_file_is_run_again_and_says_the_same(a_scene: Scene, safe: Answer, quiet: tuple[str, ...]) -> None:
    path = a_scene.cells / Path(safe.evidence).name
    path.write_bytes(path.read_bytes()[:-100])
    assert replace(run_cell(a_scene, safe.ask, quiet), cpu_s=safe.cpu_s) == safe
    assert pq.read_metadata(path).num_rows > 0


def test_other_calm_cells_make_it_another_answer(a_scene: Scene, safe: Answer, quiet: tuple[str, ...]) -> None:
    """The bands it was judged by are part of what an answer stands for."""
    path = a_scene.cells / Path(safe.evidence).name
    written = path.stat().st_mtime_ns
    again = run_cell(a_scene, safe.ask, quiet[:1])
    assert path.stat().st_mtime_ns > written
    assert again.cell_id == safe.cell_id


def test_a_staircase_remembers_its_top(a_scene: Scene) -> None:
    """Up to half again of what the pool carries and down: where all was well before, it is not after."""
    steps = (0.5, 1.0, 2.0)
    pieces = tuple((factor, 60.0) for factor in (*steps, *steps[-2::-1]))
    answer = run_cell(a_scene, ask("staircase", pieces=pieces, load_rps=11.0), ())
    up, top, down = answer.levels[1], answer.levels[2], answer.levels[3]
    assert answer.recovered is None
    assert up is not None
    assert top is not None
    assert down is not None
    assert up > 0.95
    assert down < 0.2


def test_a_cold_pool_starts_with_its_load(a_scene: Scene) -> None:
    cold, warm = (run_cell(a_scene, ask("capacity", cold=cold), ()) for cold in (True, False))
    assert cold.hit_calm is not None
    assert warm.hit_calm is not None
    assert cold.hit_calm < warm.hit_calm
    assert read_course(a_scene.cells / f"{cold.cell_id}.parquet")[1][0] == "steady"
    assert cold.roots * 1.05 < warm.roots, "no warmup"
