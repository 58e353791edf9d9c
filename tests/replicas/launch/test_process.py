"""Processes of an engine: none is ever left over, whoever dies first."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from replicas.launch.failed import EngineFailed
from replicas.launch.ports import free_port
from replicas.launch.process import EngineProcess
from replicas.launch.spec import Command, EngineSpec
from replicas.launch.vllm import command
from tests.replicas.launch.conftest import FAKE, MakeSpec, alive, all_gone, group_of, state

ROOT = Path(__file__).parents[3]


def started(spec: EngineSpec, tmp_path: Path, processes: int = 2) -> EngineProcess:
    """Once as many processes of it are seen."""
    process = EngineProcess(command(spec), tmp_path / "engine.log")
    until = time.monotonic() + 10
    while len(process.parts()) < processes and time.monotonic() < until:
        time.sleep(0.02)
    assert len(process.parts()) == processes, (tmp_path / "engine.log").read_text()
    return process


def pids_of(process: EngineProcess) -> list[int]:
    return [process.keeper_pid, *(part.pid for part in process.parts())]


def test_the_api_server_comes_first_and_what_runs_the_model_is_told_from_it(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(), tmp_path)
    server, engine = process.parts()
    assert (server.pid, server.is_engine, engine.is_engine) == (process.pid, False, True)
    assert "stdin.read" in engine.name
    process.stop(1.0)


def test_stop_is_a_sigterm_to_the_server_and_leaves_nothing(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(), tmp_path)
    pids = pids_of(process)
    assert process.stop() == -signal.SIGTERM == process.exit_code
    assert alive(pids) == []
    assert process.parts() == []


def test_what_ignores_sigterm_or_hides_in_its_own_session_is_killed(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(ignores_term=1, hides_child=1), tmp_path, processes=3)
    pids = pids_of(process)
    assert len({os.getpgid(pid) for pid in pids[1:]}) == 2, "the hidden one is out of reach of the group"
    began_s = time.monotonic()
    assert process.stop(grace_s=0.3) == -signal.SIGKILL
    assert time.monotonic() - began_s < 5
    assert alive(pids) == []


def test_a_stopped_engine_can_be_ended(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(), tmp_path)
    hit = process.signal(signal.SIGSTOP)
    assert len(hit) == 2
    until = time.monotonic() + 5
    while [state(part.pid) for part in hit] != ["T", "T"]:
        assert time.monotonic() < until
    assert process.stop(5.0) == -signal.SIGTERM


def test_when_the_server_dies_its_children_do_not_stay(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(hides_child=1), tmp_path, processes=3)
    pids = pids_of(process)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10.0) == -signal.SIGKILL
    assert alive(pids) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_when_the_parent_dies_the_engine_dies_too(number: signal.Signals, fake_spec: MakeSpec, tmp_path: Path) -> None:
    """The parent started it from a thread that has ended since: that alone must not end the engine."""
    spec = fake_spec(hides_child=1)
    code = f"""
import sys, threading, time
from pathlib import Path
from replicas.launch.process import EngineProcess
from replicas.launch.spec import Command
def start():
    global process
    command = Command({command(spec).argv!r}, {dict(spec.environment)!r}, {free_port()})
    process = EngineProcess(command, Path({str(tmp_path)!r}) / "engine.log")
thread = threading.Thread(target=start); thread.start(); thread.join()
while len(process.parts()) < 3: time.sleep(0.02)
print(process.pid, process.keeper_pid, *(part.pid for part in process.parts()), flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        pgid, *pids = map(int, parent.stdout.readline().split())
        time.sleep(0.6)
        assert len(alive(pids)) == 4, "it outlives the thread that started it"
        parent.send_signal(number)
    assert all_gone(pids)
    assert group_of(pgid) == []


def test_a_killed_keeper_takes_the_server_with_it(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(), tmp_path)
    pids = pids_of(process)
    os.kill(process.keeper_pid, signal.SIGKILL)
    assert all_gone(pids), "the engine's children watch their parent, as real ones do"
    assert process.exit_code == -signal.SIGKILL


def test_a_signal_to_an_engine_that_is_gone_is_an_error(fake_spec: MakeSpec, tmp_path: Path) -> None:
    process = started(fake_spec(), tmp_path)
    process.stop()
    with pytest.raises(EngineFailed, match="SIGSTOP: the engine has no process left"):
        process.signal(signal.SIGSTOP)
    assert process.stop() == -signal.SIGTERM, "and stopping it twice is none"


def test_a_taken_port_is_found_before_the_engine_starts(fake_spec: MakeSpec, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(EngineFailed, match=f"port {port} on 127.0.0.1 is taken"):
            EngineProcess(command(fake_spec(port)), tmp_path / "engine.log")


def test_a_program_that_is_not_there_is_told_with_the_logs_end(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match=r"(?s)/no/such did not start.*No such file") as told:
        EngineProcess(Command(("/no/such", "x"), {}, free_port()), tmp_path / "engine.log")
    assert str(told.value).startswith("/no/such did not start:\n")


def test_the_engine_does_not_see_our_python_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/ours")
    monkeypatch.setenv("VIRTUAL_ENV", "/of/ours")
    show = "import os; print(sorted(k for k in os.environ if '/of/ours' in os.environ[k] or k == 'X'))"
    process = EngineProcess(Command((sys.executable, "-c", show), {"X": "1"}, free_port()), tmp_path / "engine.log")
    assert process.wait(10.0) == 0
    assert (tmp_path / "engine.log").read_text() == "['X']\n"
    assert FAKE.is_file()
