"""A whole run from the command line: it ends with a report, and a killed one, resumed, equals an unbroken one."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tests.flows.commands import ROOT, stampede, start_stampede
from tests.flows.test_replay_processes import running

pytestmark = pytest.mark.slow

STUDY = ("run", "smoke", "--set", "seeds=8", "--set", "load.rps=20", "--set", "phases.recovery_s=60", "--processes", "2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One Prefect database for the module: making it costs seconds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    done = stampede(*STUDY, "--out", str(run), cache=cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(run / "report.html")
    return run


def identity(run: Path) -> dict[str, str]:
    """By cell, a hash over the attempts' canonically sorted columns."""
    found = {}
    for folder in sorted((run / "cells").iterdir()):
        rows = pl.read_parquet(folder / "attempts.parquet")
        rows = rows.select(sorted(rows.columns)).sort("request_id", "attempt")
        found[folder.name] = hashlib.sha256(rows.write_csv().encode()).hexdigest()
    return found


def test_a_run_leaves_every_file_of_the_design(unbroken: Path) -> None:
    for name in ("study.yaml", "manifest.json", "conversations.parquet", "results.duckdb", "report.html"):
        assert (unbroken / name).stat().st_size > 0
    assert len(list((unbroken / "workloads").glob("*.parquet"))) == 8
    cells = list((unbroken / "cells").iterdir())
    assert len(cells) == 16
    for cell in cells:
        assert {p.name for p in cell.iterdir()} >= {"attempts.parquet", "samples.parquet", "decisions.parquet", "cell.json"}
    manifest = json.loads((unbroken / "manifest.json").read_text())
    assert manifest["ended_utc"] >= manifest["started_utc"]
    assert manifest["seeds"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert manifest["trace"]["synthetic"] is True
    assert manifest["cells"] == {"total": 16, "found_again": 0}
    assert manifest["fidelity"]["seed"] == 1
    assert len(manifest["fidelity"]["rows"]) > 20
    assert "Is the traffic what the trace said?" in (unbroken / "report.html").read_text(encoding="utf-8")
    for key in ("versions", "commit", "host", "profile", "command", "code_hash", "load_rps"):
        assert key in manifest


def test_one_cell_runs_again_without_prefect_and_comes_out_the_same(unbroken: Path, tmp_path: Path) -> None:
    cell = next((unbroken / "cells").iterdir())
    command = [sys.executable, "-m", "replay", str(cell / "cell.json"), "--out", str(tmp_path / "cells" / cell.name)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert identity(tmp_path) == {cell.name: identity(unbroken)[cell.name]}


def test_killed_in_the_middle_then_resumed_equals_unbroken(unbroken: Path, tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "run"
    process = start_stampede(*STUDY, "--out", str(run), cache=cache, log=tmp_path / "log")
    wait_for_cells(run, 3, process.pid, tmp_path / "log")
    family = descendants(process.pid)
    assert len(family) >= 3  # the Prefect server and two replay processes
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_gone(family)
    before = {path.parent.name: path.stat().st_mtime_ns for path in run.glob("cells/*/cell.json")}
    assert 3 <= len(before) < 16
    assert not (run / "report.html").exists()

    done = stampede("run", "--resume", str(run), cache=cache)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(run / "report.html")
    after = {path.parent.name: path.stat().st_mtime_ns for path in run.glob("cells/*/cell.json")}
    assert {name: after[name] for name in before} == before
    assert json.loads((run / "manifest.json").read_text())["cells"] == {"total": 16, "found_again": len(before)}
    assert identity(run) == identity(unbroken)


def test_another_seed_makes_other_attempts_and_c_ref_is_kept_with_its_probes(unbroken: Path, tmp_path: Path, cache: Path) -> None:
    run = tmp_path / "run"
    done = stampede("run", "smoke", "--set", "load.fraction=0.5", "--seed", "50", "--out", str(run), cache=cache)
    assert done.returncode == 0, done.stderr
    assert not set(identity(run).values()) & set(identity(unbroken).values())
    capacity = json.loads((run / "capacity.json").read_text())
    assert capacity["low_rps"] <= capacity["c_ref_rps"] <= capacity["high_rps"] <= 1.04 * capacity["low_rps"]
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["load_rps"] == pytest.approx(0.5 * capacity["c_ref_rps"], rel=1e-5)
    probed = {probe["cell_id"] for probe in capacity["probes"]}
    assert probed == {path.name for path in (run / "capacity" / "cells").iterdir()}


def wait_for_cells(run: Path, count: int, pid: int, log: Path) -> None:
    end = time.monotonic() + 120
    while len(list(run.glob("cells/*/cell.json"))) < count:
        assert time.monotonic() < end, log.read_text()
        assert Path(f"/proc/{pid}").exists(), log.read_text()
        time.sleep(0.005)


def descendants(pid: int) -> list[int]:
    """Processes below `pid`, from /proc."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
    found, waiting = [], [pid]
    while waiting:
        children = [child for child, parent in parents.items() if parent == waiting[-1]]
        waiting.pop()
        found += children
        waiting += children
    return found


def wait_gone(pids: list[int]) -> None:
    """Nothing that the dead run started may go on (zombies of this container's init do not count)."""
    end = time.monotonic() + 20
    while left := [pid for pid in pids if running(pid)]:
        assert time.monotonic() < end, f"still running: {left}"
        time.sleep(0.05)
