"""Runs one engine as its child and outlives whoever asked for it by a moment: no process of the engine is ever left over.

A program of its own, without a thread and with the standard library only: `python keeper.py GRACE_S COMMAND…`. It tells
`pid N` on stdout once the engine runs and `exit N` when everything is gone (negative: by that signal). It ends the engine when
it reads `stop SECONDS`, on SIGTERM, and when its parent is gone (end of stdin, or another parent process). It knows no engine.

Why not `PR_SET_PDEATHSIG` in the engine alone: that signal comes when the *thread* that forked ends, hits no grandchild, and
compilers inside an engine start sessions of their own, out of reach of a process group. A subreaper inherits all of them.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_TICK_S = 0.2
_LEFTOVERS_S = 1.0  # the engine has ended: what its children may take to notice
_KILL_S = 10.0


def processes_under(root: int) -> list[int]:
    """Descendants of a process, parents first; zombies are left out."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            children.setdefault(int(parent), []).append(int(name))
    found = list(children.get(root, ()))
    for pid in found:  # grows while it is walked
        found += children.get(pid, ())
    return found


class Keeper:
    """The engine's process, how it ended, and the order to stop it."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self.grace_s = grace_s
        self.parent = os.getppid()
        self.stop_asked = False
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, process_group=0, preexec_fn=_die_with_parent)
        self.ended: int | None = None

    def watch(self) -> int:
        """Until the engine ends or must end; its exit code, when nothing of it is left."""
        while self.ended is None and not self.stop_asked:
            self._listen(_TICK_S)
            self._reap()
        if self.ended is None:
            self._end_gently()
        self._wait(_LEFTOVERS_S, lambda: not processes_under(os.getpid()))
        self._kill_all()
        return -signal.SIGKILL if self.ended is None else self.ended

    def _listen(self, seconds: float) -> None:
        ready, _, _ = select.select([0], [], [], seconds)
        line = os.read(0, 100) if ready else b""
        if ready and line.startswith(b"stop "):
            self.grace_s = float(line.split()[1])
        if ready or os.getppid() != self.parent:
            self.stop_asked = True

    def _end_gently(self) -> None:
        """A stopped process takes no SIGTERM: wake all first."""
        for pid in processes_under(os.getpid()):
            _signal(pid, signal.SIGCONT)
        _signal(self.child.pid, signal.SIGTERM)
        self._wait(self.grace_s, lambda: self.ended is not None)

    def _kill_all(self) -> None:
        def gone() -> bool:
            left = processes_under(os.getpid())
            for pid in left:
                _signal(pid, signal.SIGKILL)
            return not left

        self._wait(_KILL_S, gone)

    def _wait(self, seconds: float, done: Callable[[], bool]) -> None:
        until = time.monotonic() + seconds
        while True:
            self._reap()
            if done() or time.monotonic() > until:
                return
            time.sleep(0.02)

    def _reap(self) -> None:
        """Collect every child that ended, orphans of the engine too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.child.pid:
                self.ended = self.child.returncode = os.waitstatus_to_exitcode(status)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)


def main(grace_s: str, command: list[str]) -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1)
    keeper = Keeper(command, float(grace_s))
    signal.signal(signal.SIGTERM, lambda *_: setattr(keeper, "stop_asked", True))
    _tell(f"pid {keeper.child.pid}")
    _tell(f"exit {keeper.watch()}")


def _tell(line: str) -> None:
    with suppress(BrokenPipeError):  # nobody may be there to be told
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
