"""The deployments of prefect.yaml, triggered on a real Prefect server and finished by a real worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flows.embedded_server import Api
from tests.flows.commands import ROOT, environment

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real server that has our deployments and a worker."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }
    env = environment(home / "cache") | settings

    with started(["server", "start", "--host", "127.0.0.1", "--port", str(port)], env, home / "server.log"):
        Api(api).wait()
        prefect("work-pool", "create", "stampede", "--type", "process", env=env)
        prefect("deploy", "--all", env=env)
        with started(["worker", "start", "--pool", "stampede"], env, home / "worker.log"):
            yield api


def prefect(*arguments: str, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def started(arguments: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """A `prefect` process in a session of its own, which is ended, children and all, by its own id."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def ask(api: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The JSON answer of a GET, or of a POST when there is a body."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{api}/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def trigger(api: str, deployment: str, **parameters: object) -> None:
    """Trigger a deployment and wait until the worker has finished it."""
    found = ask(api, f"deployments/name/{deployment}")
    run = ask(api, f"deployments/{found['id']}/create_flow_run", {"parameters": {**found["parameters"], **parameters}})
    end = time.monotonic() + 240
    while (state := ask(api, f"flow_runs/{run['id']}")["state"])["type"] in ("SCHEDULED", "PENDING", "RUNNING"):
        assert time.monotonic() < end, state
        time.sleep(0.5)
    assert state["type"] == "COMPLETED", state


def test_every_deployment_finishes_on_the_server_that_triggered_it(api: str, tmp_path: Path) -> None:
    trigger(api, "nightly/nightly", study="smoke", out=str(tmp_path / "nights"), sets=["seeds=1"])
    (night,) = (tmp_path / "nights").iterdir()
    assert night.name.startswith("smoke-2")
    assert (night / "report.html").is_file()
    studies = ask(api, "flow_runs/filter", {"flows": {"name": {"any_": ["study"]}}})
    assert [run["state"]["type"] for run in studies] == ["COMPLETED"]  # it ran on this server, not on an embedded one
    schedules = ask(api, "deployments/name/nightly/nightly")["schedules"]
    assert [schedule["schedule"]["cron"] for schedule in schedules] == ["0 2 * * *"]
    assert next_night(api) == "02:00:00", "the server has planned the next night itself"

    trace = tmp_path / "own.csv"
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(csv_row(i) for i in range(300)))
    trigger(api, "replay-trace/replay-trace", trace=str(trace), study="smoke", out=str(tmp_path / "traces"), sets=["seeds=1"])
    (run,) = (tmp_path / "traces").iterdir()
    assert json.loads((run / "manifest.json").read_text())["trace"]["source"] == "azure_llm_2023"

    (night / "report.html").unlink()
    trigger(api, "report/report", run=str(night))
    assert (night / "report.html").is_file()


def next_night(api: str) -> str:
    """The UTC time of day of the first run that the server's scheduler has planned for the nightly deployment."""
    nightly = ask(api, "deployments/name/nightly/nightly")["id"]
    wanted = {"deployments": {"id": {"any_": [nightly]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    end = time.monotonic() + 120
    while not (planned := ask(api, "flow_runs/filter", wanted)):
        assert time.monotonic() < end, "the scheduler has planned no run"
        time.sleep(1)
    return str(min(run["expected_start_time"] for run in planned))[11:19]


def csv_row(second: int) -> str:
    return f"2023-11-16 18:{second // 60:02d}:{second % 60:02d}.0,{300 + second},{20 + second % 9}\n"
