"""Processes that run cells, one line each way (`python -m replay -`). It does not know which cells or in what order."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from replay.cell import Cell

COMMAND = (sys.executable, "-m", "replay", "-")


class CellFailed(RuntimeError):
    """A cell that did not finish; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A cell that finished: CPU seconds it took and rows of attempts it wrote."""

    cell_id: str
    cpu_s: float
    attempts: int


class ReplayProcess:
    """One child that runs cells one after another. When this process dies, however it dies, the child ends at once."""

    def __init__(self, log: Path, command: Sequence[str] = COMMAND) -> None:
        self.log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                # Ctrl-C is for the parent, which then closes the pipe.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def exit_code(self) -> int:
        """Of a child that died; waits for its end."""
        return self._process.wait()

    def run(self, cell: Cell, folder: Path) -> Finished:
        """Run one cell into `folder`; CellFailed when it raises or when the child dies."""
        answer = self.ask({"cell": asdict(cell), "folder": str(folder)})
        if answer is None:
            raise CellFailed(f"cell {cell.cell_id} ({title(cell)}): its process died (exit code {self.exit_code()})")
        if not answer["ok"]:
            raise CellFailed(f"cell {cell.cell_id} ({title(cell)}): {answer['error']}")
        return Finished(str(answer["cell_id"]), float(answer["cpu_s"]), int(answer["attempts"]))

    def ask(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """The child's answer to one order; None when it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def close(self) -> None:
        """End the child, in the middle of a cell too."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue


class ReplayProcesses:
    """A fixed number of children, lent to threads one at a time; a child that died is replaced when next lent."""

    def __init__(self, count: int, log: Path, command: Sequence[str] = COMMAND) -> None:
        self.count, self._log, self._command = count, log, command
        self._idle: deque[ReplayProcess] = deque(ReplayProcess(log, command) for _ in range(count))
        self._all = list(self._idle)
        self._free = threading.Semaphore(count)

    @contextmanager
    def lent(self) -> Iterator[ReplayProcess]:
        """One child for the time of the block; waits until one is free."""
        with self._free:
            process = self._idle.pop()
            if not process.alive:
                process.close()
                process = ReplayProcess(self._log, self._command)
                self._all.append(process)
            try:
                yield process
            finally:
                self._idle.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._all:
            process.close()


def default_count() -> int:
    """As many children as this process may use cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def title(cell: Cell) -> str:
    """A cell in words."""
    pool = f"{cell.pool.label}: " if cell.pool.live else ""
    again = f", repeat {cell.repeat}" if cell.repeat else ""
    return f"{pool}{cell.router.label}, {cell.guard_label}, {cell.client.name}, seed {cell.seed}{again}"
