"""One engine's processes: started with a log and a keeper, listed, signalled, ended without orphans. It knows no HTTP."""

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from replicas.launch.failed import EngineFailed, tail
from replicas.launch.keeper import processes_under
from replicas.launch.ports import is_free
from replicas.launch.spec import Command

STOP_S = 20.0
ORPHAN_GRACE_S = 5.0
_TOLD_S = 30.0
_KEEPER_OWN_S = 15.0  # what the keeper may take beyond the grace: leftovers, kill
_OURS = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "VIRTUAL_ENV")  # of our Python, not of the engine's
_KEEPER = Path(__file__).with_name("keeper.py")


@dataclass(frozen=True, slots=True)
class Part:
    """One process of an engine; `is_engine`: it schedules or runs the model, as opposed to the API server in front."""

    pid: int
    name: str
    is_engine: bool


class EngineProcess:
    """A running engine. It is in a process group of its own, and ends with the process that started it, however that ends.

    Linux only. EngineFailed when the port is taken or the program does not start.
    """

    def __init__(self, command: Command, log: Path, host: str = "127.0.0.1") -> None:
        if sys.platform != "linux":
            raise ValueError(f"engines can be launched on Linux only, and this is {sys.platform}; name a remote pool by URL")
        if not is_free(command.port, host):
            raise EngineFailed(f"port {command.port} on {host} is taken; choose another, or 0 for any free one")
        self.command, self.log = command, log
        self._lock = threading.RLock()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_KEEPER), str(ORPHAN_GRACE_S), *command.argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                env=_environment(command),
                start_new_session=True,
            )
        self.pid = self._told_pid()
        self._exit_code: int | None = None

    @property
    def keeper_pid(self) -> int:
        return self._keeper.pid

    @property
    def exit_code(self) -> int | None:
        """How the engine ended (negative: by that signal), once nothing of it is left; None while anything is."""
        with self._lock:
            if self._exit_code is None and self._keeper.poll() is not None:
                self._exit_code = self._told_exit()
            return self._exit_code

    def parts(self) -> list[Part]:
        """The engine's processes, the API server first; empty when it is gone."""
        if self._keeper.poll() is not None:
            return []
        return [part for pid in processes_under(self._keeper.pid) if (part := _part(pid, self.pid))]

    def signal(self, number: signal.Signals, engine_only: bool = False) -> list[Part]:
        """Send a signal to all processes, or to those that run the model; returns which. EngineFailed when there is none."""
        hit = []
        for part in self.parts():
            if not engine_only or part.is_engine:
                with suppress(ProcessLookupError):
                    os.kill(part.pid, number)
                    hit.append(part)
        if not hit:
            what = "process that runs the model" if engine_only else "process"
            raise EngineFailed(f"{number.name}: the engine has no {what} left; its log {self.log} ends:\n{tail(self.log)}")
        return hit

    def wait(self, seconds: float) -> int | None:
        """Until everything is gone, at most so long; the exit code."""
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(seconds)
        return self.exit_code

    def stop(self, grace_s: float = STOP_S) -> int:
        """SIGTERM, `grace_s` for it to end, then SIGKILL to what is left; the exit code. EngineFailed if that is not enough."""
        with self._lock:
            if self.exit_code is None:
                with suppress(BrokenPipeError):
                    self._stdin.write(f"stop {grace_s}\n".encode())
                    self._stdin.flush()
        code = self.wait(grace_s + _KEEPER_OWN_S)
        if code is None:
            left = ", ".join(f"{part.pid} {part.name}" for part in self.parts())
            raise EngineFailed(f"the engine did not end within {grace_s + _KEEPER_OWN_S:.0f} s of SIGTERM and SIGKILL: {left}")
        return code

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._keeper.stdin is not None
        return self._keeper.stdin

    def _told_pid(self) -> int:
        assert self._keeper.stdout is not None
        ready, _, _ = select.select([self._keeper.stdout], [], [], _TOLD_S)
        line = self._keeper.stdout.readline() if ready else b""
        if not line.startswith(b"pid "):
            self._keeper.kill()
            self._keeper.communicate()
            raise EngineFailed(f"{self.command.argv[0]} did not start:\n{tail(self.log)}")
        return int(line.split()[1])

    def _told_exit(self) -> int:
        assert self._keeper.stdout is not None
        with suppress(BrokenPipeError):
            self._stdin.close()
        with self._keeper.stdout as told:
            line = told.readline()
        return int(line.split()[1]) if line.startswith(b"exit ") else -signal.SIGKILL


def _environment(command: Command) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name not in _OURS}, **command.environment}


def _part(pid: int, server_pid: int) -> Part | None:
    """None when it has just ended. Every process but the API server serves the model; Python's resource tracker is nobody's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    line = b" ".join(words).strip().decode(errors="replace")
    if pid == server_pid:
        return Part(pid, "API server", is_engine=False)
    helps = "resource_tracker" in line or "detokenizer" in line.lower()
    return Part(pid, line[:80], is_engine=not helps)
