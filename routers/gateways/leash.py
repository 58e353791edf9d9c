"""Runs one command until it ends, or until the process that started this one is gone. It knows nothing of what it runs.

`python leash.py COMMAND…` with a pipe as standard input: the pipe's end (the starter died, or let go) or SIGTERM ends the command
by SIGTERM, and after `GRACE_S` by SIGKILL to its whole process group. Standard library only: it is run as a plain file.
"""

import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time

GRACE_S = 5.0
POLL_S = 0.5  # the pipe tells at once, unless a fork of the starter holds it open too
_PR_SET_PDEATHSIG = 1
_DESCRIPTORS = 65536


def main(command: list[str]) -> int:
    """Runs the command; returns its exit status as a shell would give it."""
    told, tell = os.pipe()
    signal.set_wakeup_fd(_unblocked(tell))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    _raise_descriptors()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent)
    parent = os.getppid()
    while child.poll() is None and os.getppid() == parent:
        ready, _, _ = select.select([0, told], [], [], POLL_S)
        if 0 in ready or (told in ready and set(os.read(told, 64)) != {signal.SIGCHLD}):
            break
    status = _end(child)
    return status if status >= 0 else 128 - status


def _end(child: "subprocess.Popen[bytes]") -> int:
    """SIGTERM, a bounded wait, then SIGKILL to what is left of the group (this process too, being its leader)."""
    if child.poll() is None:
        child.terminate()
        until_s = time.monotonic() + GRACE_S
        while child.poll() is None and time.monotonic() < until_s:
            time.sleep(0.02)
        if child.poll() is None:
            os.killpg(os.getpgrp(), signal.SIGKILL)
    return child.wait()


def _end_with_parent() -> None:
    """The leash itself may be killed: then the command gets SIGTERM from the kernel (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _raise_descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _unblocked(descriptor: int) -> int:
    os.set_blocking(descriptor, False)
    return descriptor


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
