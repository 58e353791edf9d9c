"""A gateway's process from start to end, with programs of a few lines: nothing is left behind, whoever dies first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from routers.gateways import GATEWAYS, leash
from routers.gateways.gateway import GatewaySpec
from routers.gateways.installed import installed_gateways
from routers.gateways.process import GatewayFailed, GatewayProcess, free_ports
from routers.gateways.programs import MissingProgram, find_program, python_of
from tests.routers.gateways.specs import POOL, Scripted

SERVE = """
import http.server, os, pathlib, signal, subprocess, sys
{before}
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{{"pool": {{"healthy": {known}}}}}'
        self.send_response({status})
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""
CHILD = """
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
pathlib.Path('child').write_text(str(child.pid))
"""


def code(before: str = "", known: int = 2, status: int = 200) -> str:
    return SERVE.format(before=before, known=known, status=status)


def process(folder: Path, script: str, *counts: str) -> GatewayProcess:
    port, metrics_port = free_ports(2)
    return GatewayProcess(Scripted(script, counts), GatewaySpec("any", POOL, port, metrics_port), folder, Path(sys.executable))


def alive(pid: int) -> bool:
    """Whether it runs (what is dead and not yet collected does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, within_s: float = 5.0) -> bool:
    until_s = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    return not alive(pid)


def test_it_serves_inside_and_is_gone_with_its_children_after(tmp_path: Path) -> None:
    with process(tmp_path / "g", code(CHILD)) as it:
        child = int((tmp_path / "g" / "child").read_text())
        assert it.running
        assert it.version == "scripted 1"
        assert it.memory_bytes() > 1_000_000
        assert it.cpu_s() > 0
        assert (tmp_path / "g" / "note.txt").read_text() == "generated"
        assert alive(child)
    assert not it.running
    assert gone(child)
    assert (it.cpu_s(), it.memory_bytes()) == (0, 0)
    it.stop()  # again does nothing


def test_ready_means_that_every_replica_is_known(tmp_path: Path) -> None:
    with process(tmp_path / "all", code(known=2), "pool.healthy") as it:
        assert it.running
    late = process(tmp_path / "one", code(known=1), "pool.healthy")
    with pytest.raises(GatewayFailed, match=r"scripted was not ready within 1\.5 s \(1 of 2 replicas known\); gateway\.log: "):
        late.start(1.5)
    assert not late.running


def test_a_refusal_is_not_ready_and_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(GatewayFailed, match=r"not ready within 1 s \(HTTP 503\)"):
        process(tmp_path, code(status=503)).start(1.0)


def test_one_that_ends_at_once_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(GatewayFailed, match=r"scripted ended before it served; gateway\.log: no such port") as raised:
        process(tmp_path, "import sys; print('no such port'); sys.exit(3)").start()
    assert "\n" not in str(raised.value)


def test_one_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = tmp_path / "leash.py"
    patient.write_text(Path(leash.__file__).read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.3"))
    monkeypatch.setattr(leash, "__file__", str(patient))
    with process(tmp_path / "g", code("signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + CHILD)) as it:
        child = int((tmp_path / "g" / "child").read_text())
        begun_s = time.monotonic()
        it.stop()
    assert time.monotonic() - begun_s < 3
    assert gone(child)


STARTER = """
import os, sys, time
from pathlib import Path
from tests.routers.gateways.test_process import process, code
it = process(Path(sys.argv[1]), code("pathlib.Path('pid').write_text(str(os.getpid()))"))
it.start()
print(os.fork() if len(sys.argv) > 2 else 0, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("forks", [False, True])  # a fork of the starter holds the pipe to the leash open
def test_it_does_not_outlive_a_starter_that_is_killed(forks: bool, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", STARTER, str(tmp_path), *(["fork"] if forks else [])]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        fork = int(starter.stdout.readline())
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        starter.kill()
    assert gone(pid)
    if fork:
        os.kill(fork, signal.SIGKILL)


def test_it_does_not_outlive_its_leash(tmp_path: Path) -> None:
    with process(tmp_path, code("pathlib.Path('pid').write_text(str(os.getpid()))")) as it:
        pid = int((tmp_path / "pid").read_text())
        leash_pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(leash_pid, signal.SIGKILL)
        assert gone(pid)
        assert not it.running


def test_a_program_is_looked_for_where_it_is_said_to_be_first(tmp_path: Path) -> None:
    here = tmp_path / "nginx"
    here.write_text("#!/bin/sh\n")
    here.chmod(0o755)
    assert find_program("nginx", {"STAMPEDE_GATEWAYS": f"/nowhere:{tmp_path}", "PATH": "/usr/bin"}) == here
    with pytest.raises(
        MissingProgram, match=r"gateway program 'no-such-gateway' was not found; .*STAMPEDE_GATEWAYS \(now: /nowhere\)"
    ):
        find_program("no-such-gateway", {"STAMPEDE_GATEWAYS": "/nowhere"})


def test_a_console_scripts_python_is_in_its_first_line(tmp_path: Path) -> None:
    script = tmp_path / "router"
    script.write_text("#!/env/bin/python3\nimport x\n")
    assert python_of(script) == Path("/env/bin/python3")
    script.write_bytes(b"\x7fELF")
    assert python_of(script) == tmp_path / "python"


def test_a_missing_program_is_a_row_with_what_to_do(tmp_path: Path) -> None:
    rows = {row.name: row for row in installed_gateways({"PATH": str(tmp_path)})}
    assert list(rows) == list(GATEWAYS)
    assert rows["sglang_router"].program is None
    assert "STAMPEDE_GATEWAYS" in rows["sglang_router"].version


def test_a_broken_program_is_a_row_too(tmp_path: Path) -> None:
    script = tmp_path / "haproxy"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    (row,) = (row for row in installed_gateways({"STAMPEDE_GATEWAYS": str(tmp_path)}) if row.name == "haproxy")
    assert row.program is None
    assert row.version.startswith("haproxy does not run: ")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20
