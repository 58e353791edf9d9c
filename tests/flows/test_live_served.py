"""A whole live study without an engine: served replicas, our router, a real sender; killed in the middle, it resumes."""

import json
import os
import signal
from pathlib import Path

import polars as pl
import pytest

from tests.flows.commands import stampede, start_stampede
from tests.flows.test_whole_run import descendants, wait_for_cells, wait_gone

pytestmark = pytest.mark.slow

SHORT = "phases={warmup_s: 0.5, steady_s: 1.5, recovery_s: 0.5, drain_s: 1}"
STUDY = ("run", "live-served", "--set", SHORT, "--set", "trigger.d_s=0.5", "--set", "routers=[session_affinity, direct]")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def cell_facts(run: Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in sorted(run.glob("cells/*/cell.json"))]


def test_a_live_study_ends_with_one_report_of_measured_cells_and_their_twins(tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "run"
    done = stampede(*STUDY, "--set", "repeats=1", "--out", str(run), cache=cache)
    assert done.stdout.splitlines()[-1:] == [str(run / "report.html")], done.stderr
    assert "left" in done.stderr
    cells = cell_facts(run)
    told = sorted((str(c["router"]), str(c["driver"]), str(c["pool"])) for c in cells)
    assert told == [
        ("direct", "virtual", "2 × served, simulated"),
        ("direct", "wall", "2 × served"),
        ("session_affinity", "virtual", "2 × served, simulated"),
        ("session_affinity", "wall", "2 × served"),
    ]
    for cell in cells:
        assert cell["conserved"] is True
        assert pl.read_parquet(run / "cells" / str(cell["cell_id"]) / "attempts.parquet")["outcome"].eq("ok").any()
    live = [c for c in cells if c["driver"] == "wall"]
    assert all(len(c["flushed"]) == 2 for c in live)  # type: ignore[arg-type]
    manifest = json.loads((run / "manifest.json").read_text())
    assert [(e["pool"], e["replica_id"], e["engine"]) for e in manifest["engines"]] == [
        ("2 × served", 0, "served"),
        ("2 × served", 1, "served"),
    ]
    assert all(e["ready_after_s"] and e["command"] for e in manifest["engines"])
    assert manifest["self_test"]["requests"] >= 60
    assert (manifest["driver"], manifest["senders"], manifest["prompts"]) == ("wall", 1, "ids")
    assert list((run / "engines" / "2-served").glob("*.log"))


def test_killed_in_the_middle_nothing_is_left_running_and_only_what_is_missing_is_run(tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "run"
    study = (*STUDY, "--set", "repeats=2", "--set", "pool.twin=false")
    process = start_stampede(*study, "--out", str(run), cache=cache, log=tmp_path / "log")
    wait_for_cells(run, 1, process.pid, tmp_path / "log")
    family = descendants(process.pid)
    assert len(family) >= 3  # the Prefect server and the keepers of two replicas
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_gone(family)
    before = {path.parent.name: path.stat().st_mtime_ns for path in run.glob("cells/*/cell.json")}
    assert 1 <= len(before) < 4

    done = stampede("run", "--resume", str(run), cache=cache)
    assert done.stdout.splitlines()[-1:] == [str(run / "report.html")], done.stderr
    after = {path.parent.name: path.stat().st_mtime_ns for path in run.glob("cells/*/cell.json")}
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    assert {path.name for path in (run / "cells").iterdir()} == set(after)  # nothing half-written is left
    assert json.loads((run / "manifest.json").read_text())["cells"] == {"total": 4, "found_again": len(before)}
    assert {path.name for path in (run / "engines").iterdir()} == {"2-served", "2-served.1"}
