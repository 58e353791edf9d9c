"""Starts and stops the server of an engine: own process group, log kept, port free afterwards. It knows no engine's options."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

READY_S = 240.0  # 30 s on a quiet machine
STOP_S = 20.0

_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class RealEngine:
    """A server that answers at `url`; its output is in `log`."""

    url: str
    log: Path

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: Any = None, timeout_s: float = 60.0) -> tuple[int, Any]:
        """(status, JSON or text) of the answer, errors included."""
        data = b"" if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its series that have these labels; KeyError when there is none."""
        rows = [line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line.startswith(name)]
        wanted = [f'{k}="{v}"' for k, v in labels.items()]
        values = [float(v) for k, v in rows if k.split("{")[0] == name and all(w in k for w in wanted)]
        if not values:
            raise KeyError(name)
        return sum(values)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], port: int, log: Path, env: dict[str, str]) -> Iterator[RealEngine]:
    """Run a server until the block ends; RuntimeError with the log's end when it dies or is not ready in `READY_S`.

    Afterwards its whole process group is gone and the port is free again (RuntimeError if not).
    """
    with log.open("wb") as out:
        process = _start(command, out, env)
        engine = RealEngine(f"http://127.0.0.1:{port}", log)
        try:
            _wait_ready(process, engine)
            yield engine
        finally:
            _stop(process)
    if not _is_free(port):
        raise RuntimeError(f"port {port} is still taken after the server's end; its log: {log}")


def _start(command: list[str], out: IO[bytes], env: dict[str, str]) -> "subprocess.Popen[bytes]":
    nice = ["nice", "-n", "5"] if sys.platform == "linux" else []
    return subprocess.Popen(
        [*nice, *command], stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **_OFFLINE, **env}, start_new_session=True
    )


def _wait_ready(process: "subprocess.Popen[bytes]", engine: RealEngine) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the engine's server ended with {process.returncode}:\n{_tail(engine.log)}")
        try:
            engine.get("/health")
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the engine's server is not ready after {READY_S:.0f} s:\n{_tail(engine.log)}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the server, then SIGKILL to whatever its group still holds."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def _is_free(port: int) -> bool:
    until = time.monotonic() + STOP_S
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return True
            except OSError:
                time.sleep(0.2)
    return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
