"""One program on a leash: it ends with whoever started it, and its CPU time and memory can be read. It knows no gateway."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from routers.gateways import leash

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TAIL_BYTES = 65_536
_LONGEST = 300


class Leashed:
    """A running command in a session of its own; what it says is appended to `log` (stdout only where nobody reads it).

    `folder` None: the starter's own. `stdout` is a pipe where `tells`.
    """

    def __init__(self, command: Sequence[str], log: Path, folder: Path | None = None, tells: bool = False) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-I", leash.__file__, *command],
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if tells else out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def stop(self) -> None:
        """SIGTERM, `leash.GRACE_S`, SIGKILL to the group; nothing of it is left after."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(leash.GRACE_S + 2.0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_group(self._process.pid)
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def cpu_s(self) -> float:
        """CPU time that the command's living processes have used so far, user and system, in seconds."""
        return sum(int(stat[11]) + int(stat[12]) for stat in self._stats()) / _TICKS

    def memory_bytes(self) -> int:
        """Resident memory of the command's processes, shared pages counted in each."""
        return sum(int(stat[21]) for stat in self._stats()) * _PAGE_BYTES

    def last_line(self) -> str:
        """The last line of its log that says anything."""
        text = b""
        if self.log.exists():
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                text = file.read()
        lines = text.decode(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
        return f"{self.log.name}: {said[:_LONGEST]}"

    def _stats(self) -> list[list[str]]:
        """/proc/PID/stat behind the name, of every process of its group but the leash."""
        group = self._process.pid
        return [stat for pid, stat in _group_stats(group) if pid != group]


def _group_stats(group: int) -> list[tuple[int, list[str]]]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[2]) == group:
            found.append((int(entry.name), stat))
    return found


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
