"""Cells run in child processes over a line protocol; a child that fails, dies or loses its parent is told apart."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from flows.grid import grid
from flows.replay_processes import COMMAND, CellFailed, ReplayProcess, ReplayProcesses, title
from replay.cell import Cell
from tests.flows.test_grid import planned, study

CHILD = textwrap.dedent(
    """
    import os, sys, time, types

    def run_cell(cell, folder):
        print("a stray print must not break the protocol")
        if cell.seed == 2:
            raise RuntimeError("books do not\\nbalance")
        if cell.seed == 3:
            os.kill(os.getpid(), 9)
        folder.mkdir(parents=True)
        (folder / "pid").write_text(str(os.getpid()))
        time.sleep(cell.load_rps)

    fake = types.ModuleType("replay.virtual_cell")
    fake.run_cell = run_cell
    sys.modules["replay.virtual_cell"] = fake
    import replay.__main__
    replay.__main__._rows = lambda path: 5
    sys.exit(replay.__main__.main(["-"]))
    """
)
FAKE = (sys.executable, "-c", CHILD)


def cells(run_s: float = 0.0) -> dict[int, Cell]:
    """By seed: 1 finishes after `run_s`, 2 raises, 3 dies."""
    return {c.seed: c for c in grid(study(), planned(), run_s)[:3]}


def test_a_child_answers_for_each_cell_and_survives_one_that_raises(tmp_path: Path) -> None:
    with ReplayProcesses(1, tmp_path / "log", FAKE) as processes, processes.lent() as child:
        with pytest.raises(CellFailed, match=r"cell \w+-s2 \(.*seed 2\): RuntimeError: books do not balance$"):
            child.run(cells()[2], tmp_path / "two")
        finished = child.run(cells()[1], tmp_path / "one")
    assert (finished.cell_id, finished.attempts) == (cells()[1].cell_id, 5)
    assert "Traceback" in (tmp_path / "log").read_text()


def test_a_child_that_dies_is_named_and_replaced(tmp_path: Path) -> None:
    with ReplayProcesses(1, tmp_path / "log", FAKE) as processes:
        with processes.lent() as child, pytest.raises(CellFailed, match=r"-s3 \(.*\): its process died \(exit code -9\)"):
            child.run(cells()[3], tmp_path / "three")
        with processes.lent() as child:
            assert child.run(cells()[1], tmp_path / "one").attempts == 5


def test_closing_ends_the_children(tmp_path: Path) -> None:
    with ReplayProcesses(2, tmp_path / "log", FAKE) as processes, processes.lent() as child:
        pid = child.pid
        assert child.alive
    assert not Path(f"/proc/{pid}").exists()


def test_a_child_whose_parent_is_killed_ends_in_the_middle_of_a_cell(tmp_path: Path) -> None:
    """`kill -9` of a run leaves nobody computing into its folder."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(tmp_path)], cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL
    )
    pid_file = tmp_path / "one" / "pid"
    try:
        wait_until(lambda: pid_file.is_file() and pid_file.read_text() != "")
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    child = int(pid_file.read_text())
    wait_until(lambda: not running(child))


PARENT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flows.replay_processes import ReplayProcess
    from tests.flows.test_replay_processes import cells
    child = ReplayProcess(Path(sys.argv[2]) / "log", (sys.executable, "-c", sys.argv[1]))
    child.run(cells(60.0)[1], Path(sys.argv[2]) / "one")
    """
)


def running(pid: int) -> bool:
    """False for a zombie, which only waits for this container's init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true: object, timeout_s: float = 20.0) -> None:
    assert callable(true)
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_the_real_child_refuses_a_workload_that_is_not_there(tmp_path: Path) -> None:
    cell = cells()[1]
    child = ReplayProcess(tmp_path / "log", COMMAND)
    try:
        with pytest.raises(CellFailed, match=r"h1\.parquet"):
            child.run(cell, tmp_path / "one")
    finally:
        child.close()
    assert not (tmp_path / "one").exists()
    assert title(cell) == "round_robin, none, 3 attempts, seed 1"


def test_what_is_no_cell_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    for text in ("{", '{"router": 1}', "[]"):
        file.write_text(text)
        done = subprocess.run([*COMMAND[:3], str(file)], cwd=Path(__file__).parents[2], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"{file}: not a cell: ")
        assert done.stderr.count("\n") == 1
