"""Whoever runs a cell may be killed at any moment: no router, no gateway, no sender and no replica is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_RUN = """
import sys
from pathlib import Path
from replay.cell import Named
from replay.measured import run_measured_cell
from replicas.launch.pool import running_pool
from tests.replay.measured.scene import live_cell, place, served_spec, talks
folder = Path(sys.argv[1])
with running_pool([served_spec(), served_spec()], folder / "logs") as pool:
    cell = live_cell(talks(60, 0.25, end_s=20.0), folder, Named("round_robin", "round robin"))
    print("begins", flush=True)
    run_measured_cell(cell, place(pool, senders=2), folder / "cell")
"""


def marked(mark: str) -> dict[int, str]:
    """Processes whose environment holds the mark: all that the run started, however they left its session."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def until(true: Callable[[], bool], seconds: float) -> bool:
    end_s = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < end_s:
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("stage", ["it gets ready", "it is sent"])
def test_a_killed_caller_leaves_nothing_behind(stage: str, tmp_path: Path) -> None:
    mark = f"STAMPEDE_TEST_MARK={tmp_path}"
    environment = {**os.environ, "STAMPEDE_TEST_MARK": str(tmp_path)}
    caller = subprocess.Popen(
        [sys.executable, "-c", _RUN, str(tmp_path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, start_new_session=True
    )

    def running() -> str:
        return " ".join(marked(mark).values())

    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"begins\n"
        assert "serve replica" in running()
        assert until(lambda: "serve router" in running(), 30)
        if stage == "it is sent":
            assert until(lambda: running().count("replay.send") == 2, 30)
            time.sleep(3.0)
    finally:
        os.kill(caller.pid, signal.SIGKILL)
        caller.communicate()
    assert until(lambda: not marked(mark), 20), running()
    assert not (tmp_path / "cell").exists()
