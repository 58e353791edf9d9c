"""Starts the senders of one cell as processes, gives them one epoch, waits for their parts. It knows no engine and no router."""

import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from replay.send.spec import SendSpec

_LAST_LETTERS = 500


class SenderFailed(RuntimeError):
    """A sender process did not get ready, ended badly or did not end; with the last words of its log."""


@dataclass(slots=True)
class SenderProcess:
    """One sender; its stderr goes to `log`."""

    spec: SendSpec
    process: subprocess.Popen[str]
    log: Path

    def wait_ready(self, until_s: float) -> None:
        """Its first bodies are made."""
        ready, _, _ = select.select([self._out], [], [], max(0.0, until_s - time.monotonic()))
        if not ready or self._out.readline() != "ready\n":
            raise self._failed("did not get ready" if not ready else "ended before it was ready")

    def begin(self, epoch_s: float) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{epoch_s!r}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("ended before the epoch") from None

    def wait(self, until_s: float) -> Path:
        try:
            code = self.process.wait(max(0.0, until_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._failed("did not end in time") from None
        if code:
            raise self._failed(f"ended with code {code}")
        return self.spec.part

    def end(self) -> None:
        """It is gone after this."""
        with self.process:  # which closes the pipes
            self.process.kill()

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _failed(self, what: str) -> SenderFailed:
        words = self.log.read_text(encoding="utf-8", errors="replace").strip()[-_LAST_LETTERS:]
        return SenderFailed(f"sender {self.spec.sender} {what}{': ' + words if words else ''}")


class Senders:
    """All senders of a cell, ready. `begin` once, then `wait`."""

    def __init__(self, senders: Sequence[SenderProcess]) -> None:
        self._senders = senders
        self.epoch_s = 0.0

    def begin(self, lead_s: float = 0.2, epoch_s: float | None = None) -> float:
        """Give all of them the same epoch, `lead_s` from now if none is given; returns it (CLOCK_MONOTONIC, `time.monotonic`)."""
        self.epoch_s = time.monotonic() + lead_s if epoch_s is None else epoch_s
        for sender in self._senders:
            sender.begin(self.epoch_s)
        return self.epoch_s

    def wait(self, margin_s: float = 30.0) -> list[Path]:
        """The parts, when all have ended: at the end of the drain at the latest, and `margin_s` for writing; SenderFailed."""
        spec = self._senders[0].spec
        end_s = self.epoch_s + _horizon_s(spec) + spec.cell.drain_s + margin_s
        return [sender.wait(end_s) for sender in self._senders]


@contextmanager
def ready_senders(specs: Sequence[SendSpec], folder: Path, ready_s: float = 120.0) -> Iterator[Senders]:
    """Start the senders and wait until all are ready; none is left when the block ends, however it ends.

    `folder` gets their specifications and logs. Raises SenderFailed.
    """
    started: list[SenderProcess] = []
    try:
        started.extend(_start(replace(spec, epoch_s=None), folder) for spec in specs)  # one by one: a failure leaves the others
        until_s = time.monotonic() + ready_s
        for sender in started:
            sender.wait_ready(until_s)
        yield Senders(started)
    finally:
        for sender in started:
            sender.end()


def _start(spec: SendSpec, folder: Path) -> SenderProcess:
    path, log = folder / f"sender-{spec.sender}.spec.json", folder / f"sender-{spec.sender}.log"
    path.write_text(spec.to_json(), encoding="utf-8")
    command = [sys.executable, "-m", "replay.send", str(path)]
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    return SenderProcess(spec, process, log)


def _horizon_s(spec: SendSpec) -> float:
    from workloads.storage import read_provenance

    return float(sum(phase["duration_s"] for phase in read_provenance(Path(spec.cell.workload))["phases"]))
