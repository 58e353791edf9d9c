"""Starts a gateway from its specification, waits until it serves, and ends it without orphans. It sends it no completion."""

import json
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from routers.gateways.gateway import Gateway, GatewaySpec, Launch
from routers.gateways.leashed import Leashed
from routers.gateways.programs import find_program

READY_S = 60.0  # the wheels took up to 20 s on two cores
_ASK_S = 5.0


class GatewayFailed(RuntimeError):
    """A gateway ended, or did not get ready in time; one line with the last line of its log."""


class GatewayProcess:
    """`with GatewayProcess(gateway, spec, folder) as it:` — it serves on `it.url` inside, and is gone after.

    `folder` (made if need be) holds the generated configuration, `command.json` and `gateway.log`. `version` is what it says of
    itself. Raises MissingProgram, ValueError for a bad specification, GatewayFailed.
    """

    def __init__(self, gateway: Gateway, spec: GatewaySpec, folder: Path, program: Path | None = None) -> None:
        self.gateway, self.spec, self.folder = gateway, spec, folder.absolute()
        self.program = program or find_program(gateway.program)
        self._launch: Launch = gateway.launch(spec, self.program, self.folder)
        self.version = gateway.version(self.program)
        self.url = f"http://127.0.0.1:{spec.port}"
        self.metrics_url = self._launch.metrics_url
        self.log = self.folder / "gateway.log"
        self._process: Leashed | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, ready_s: float = READY_S) -> None:
        """Returns once it answers 200 and knows every replica; blocks up to `ready_s`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in self._launch.files.items():
            (self.folder / name).write_text(text)
        (self.folder / "command.json").write_text(json.dumps(self._launch.command))
        self._process = Leashed(self._launch.command, self.log, self.folder)
        try:
            self._wait_until_ready(time.monotonic() + ready_s, ready_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """SIGTERM, `leash.GRACE_S`, SIGKILL to the group; does nothing where it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    @property
    def command(self) -> tuple[str, ...]:
        return self._launch.command

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def cpu_s(self) -> float:
        """CPU time that the gateway's living processes have used so far, user and system, in seconds."""
        return 0.0 if self._process is None else self._process.cpu_s()

    def memory_bytes(self) -> int:
        """Resident memory of the gateway's processes, shared pages counted in each."""
        return 0 if self._process is None else self._process.memory_bytes()

    def last_line(self) -> str:
        """The last line of its log that says anything."""
        return f"{self.log.name}: never started" if self._process is None else self._process.last_line()

    def _wait_until_ready(self, until_s: float, ready_s: float) -> None:
        last = "no answer"
        while time.monotonic() < until_s:
            if not self.running:
                raise GatewayFailed(f"{self.gateway.name} ended before it served; {self.last_line()}")
            last = self._not_ready()
            if not last:
                return
            time.sleep(0.1)
        raise GatewayFailed(f"{self.gateway.name} was not ready within {ready_s:g} s ({last}); {self.last_line()}")

    def _not_ready(self) -> str:
        """Why it cannot serve yet; empty once it can."""
        try:
            with urllib.request.urlopen(self.url + self._launch.ready_path, timeout=_ASK_S) as answer:
                body = answer.read()
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except (OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"
        if not self._launch.ready_counts:
            return ""
        known = sum(_number_at(json.loads(body), field) for field in self._launch.ready_counts)
        return "" if known == len(self.spec.replicas) else f"{known} of {len(self.spec.replicas)} replicas known"


def free_ports(n: int) -> list[int]:
    """`n` different ports of 127.0.0.1 that nobody listens on now (someone may take one before its use)."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()


def _number_at(answer: object, field: str) -> int:
    """The number under a dotted name, 0 where there is none."""
    for name in field.split("."):
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer if isinstance(answer, int) else 0
