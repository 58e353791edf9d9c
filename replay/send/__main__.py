"""Runs one sender: `python -m replay.send SPEC.json`. It knows no study and starts no engine.

Without an `epoch_s` in its specification it prints `ready` when its first bodies are made and waits for a line with the epoch
(seconds on CLOCK_MONOTONIC); when that pipe ends in the middle of a run, whoever started it is dead and it ends at once. The last
line on stdout is the folder of its part; a run that does not count says so on stderr. Exit codes: 0 done, 2 a bad specification.
"""

import argparse
import gc
import os
import resource
import sys
import threading
from contextlib import suppress
from pathlib import Path

from replay.send.part import play, void_reason
from replay.send.sender import Sender
from replay.send.spec import SendSpec
from replay.send.wire import wake_on_time
from workloads.storage import read_workload

_NICE = -10


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replay.send", description="Send one share of a cell's workload.")
    parser.add_argument("spec", type=Path, metavar="SPEC.json")
    path = parser.parse_args(arguments).spec
    try:
        spec = SendSpec.from_json(path.read_text(encoding="utf-8"))
        sender = Sender(spec, read_workload(Path(spec.cell.workload)))
    except (OSError, ValueError, TypeError, KeyError) as error:
        print(f"{path}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    _settle_down(spec.core)
    sender.prepare()
    try:
        epoch_s = spec.epoch_s if spec.epoch_s is not None else _read_epoch()
    except ValueError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    facts = play(spec, sender, epoch_s)
    reason = void_reason(facts)
    if reason:
        print(f"VOID: sender {spec.sender}: {reason}", file=sys.stderr)
    print(spec.part)
    return 0


def _settle_down(core: int | None) -> None:
    """Sockets for thousands of streams, one core, timely wake-ups, and no look at what was loaded when garbage is collected.

    Where the system lets it, it goes before others on its core: engines may share this host, and it is the instrument.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if core is not None:
        os.sched_setaffinity(0, {core})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    wake_on_time()
    gc.freeze()


def _read_epoch() -> float:
    print("ready", flush=True)
    line = sys.stdin.readline()
    try:
        epoch_s = float(line)
    except ValueError:
        raise ValueError(f"stdin: {line!r}; allowed: the epoch in seconds of CLOCK_MONOTONIC") from None
    threading.Thread(target=_watch_parent, daemon=True).start()
    return epoch_s


def _watch_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):  # not through sys.stdin, whose lock would be missed when this process ends
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
