"""`stampede probe` from the command line: it ends with a report, and a killed one, resumed, equals an unbroken one."""

import json
import os
import signal
import time
from pathlib import Path

import duckdb
import pytest

from flows.probe.flow import batches
from tests.flows.commands import stampede, start_stampede
from tests.flows.probe.scenes import STUDY, ask

COLUMNS = "* EXCLUDE (cpu_s)"
SMALL = ("--set", "routers=[least_outstanding]", "--set", "probe.frontier_tries=4", "--set", "probe.placebo_seeds=4")


def test_batches_hold_every_ask_once_and_mix_them() -> None:
    asks = [ask("frontier", k=2.0, seed=seed) for seed in range(100)]
    made = batches(asks, 2)
    assert sorted(one for batch in made for one in batch) == asks
    assert max(map(len, made)) - min(map(len, made)) <= 1
    assert max(map(len, made)) <= 24
    assert [len(batch) for batch in batches(asks[:3], 2)] == [1, 1, 1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Prefect database for the module: making it costs seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, cache: Path, study_file: Path) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    done = stampede("probe", str(study_file), *SMALL, "--phases", "frontier", "--out", str(run), cache=cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(run / "report.html")
    return run


def answers(run: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(str(run / "results.duckdb"), read_only=True) as con:
        return con.execute(f"SELECT {COLUMNS} FROM answers ORDER BY cell_id").fetchall()


@pytest.mark.slow
def test_a_probe_leaves_answers_evidence_and_a_page(unbroken: Path) -> None:
    for name in ("study.yaml", "manifest.json", "conversations.parquet", "results.duckdb", "report.html"):
        assert (unbroken / name).stat().st_size > 0
    with duckdb.connect(str(unbroken / "results.duckdb"), read_only=True) as con:
        cells = {row[0] for row in con.execute("SELECT cell_id FROM answers").fetchall()}
        told = {row[0] for row in con.execute("SELECT DISTINCT cell_id FROM seconds").fetchall()}
        frontier = con.execute("SELECT arm.guard, k, low, high FROM frontier ORDER BY ALL").fetchall()
    assert {path.stem for path in (unbroken / "cells").glob("*.parquet")} == cells == told
    assert [row[0] for row in frontier] == ["limited", "none"]
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert manifest["cells"]["total"] == len(cells)
    assert manifest["c_ref_rps"] == 14.0
    assert manifest["ended_utc"] >= manifest["started_utc"]


@pytest.mark.slow
def test_a_killed_probe_is_finished_by_resuming_it(tmp_path: Path, cache: Path, study_file: Path, unbroken: Path) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    begun = start_stampede("probe", str(study_file), *SMALL, "--phases", "frontier", "--out", str(run), cache=cache, log=log)
    end = time.monotonic() + 120
    while len(list(run.glob("cells/[!.]*.parquet"))) < 6:
        assert begun.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    time.sleep(0.5)
    kept = {path.name: path.stat().st_mtime_ns for path in run.glob("cells/[!.]*.parquet")}
    done = stampede("probe", "--resume", str(run), "--phases", "frontier", cache=cache)
    assert done.returncode == 0, done.stderr
    assert answers(run) == answers(unbroken)
    assert {name: (run / "cells" / name).stat().st_mtime_ns for name in kept} == kept, "what was whole is not run again"


@pytest.mark.slow
def test_a_resumed_probe_may_go_on_to_other_phases(cache: Path, unbroken: Path) -> None:
    before = len(answers(unbroken))
    done = stampede("probe", "--resume", str(unbroken), "--phases", "frontier,staircase", cache=cache)
    assert done.returncode == 0, done.stderr
    assert len(answers(unbroken)) > before


@pytest.mark.slow
def test_a_report_is_built_anew_from_the_evidence(cache: Path, unbroken: Path) -> None:
    before = answers(unbroken)
    for name in ("results.duckdb", "report.html"):
        (unbroken / name).unlink()
    done = stampede("report", str(unbroken), cache=cache)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(unbroken / "report.html")), done.stderr
    assert answers(unbroken) == before


def test_a_bad_study_ends_with_code_2_and_writes_nothing(tmp_path: Path, cache: Path, study_file: Path) -> None:
    for more, said in (
        (("--set", "probe.speed=9"), "probe.speed = 9: unknown key"),
        (("--phases", "frontier,fun"), "--phases: 'fun' is no phase"),
    ):
        done = stampede("probe", str(study_file), *more, "--out", str(tmp_path / "run"), cache=cache)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
        assert not (tmp_path / "run").exists()
