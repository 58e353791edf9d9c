"""Progress of a run on stderr: bars on a terminal, plain lines elsewhere. It does not know what the stages do."""

import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 10.0


class Stage:
    """One named stage with a total; `advance` may be called from any thread."""

    def __init__(self, name: str, total: int, shown: "RunProgress") -> None:
        self.name, self.total, self.done, self.note = name, total, 0, ""
        self._shown = shown
        self._start_s = time.monotonic()
        self.task: TaskID | None = None

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._start_s

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._shown.update(self, steps, note)

    def finish(self, note: str = "") -> None:
        """All is done, in however many steps."""
        self._shown.finish(self, note)


class RunProgress:
    """All stages of a run, one below the other."""

    def __init__(self, quiet: bool = False) -> None:
        self._lock = threading.Lock()
        self._quiet = quiet
        self._bars = _bars() if sys.stderr.isatty() and not quiet else None
        self._said_s = 0.0

    def stage(self, name: str, total: int) -> Stage:
        """Begin a stage of `total` steps."""
        stage = Stage(name, total, self)
        if self._bars is not None:
            stage.task = self._bars.add_task(name, total=total, note="")
        else:
            self._say(f"{name}: {total} to do" if total > 1 else f"{name} …")
        return stage

    def update(self, stage: Stage, steps: int, note: str) -> None:
        with self._lock:
            stage.done += steps
            stage.note = note or stage.note
            if self._bars is not None and stage.task is not None:
                self._bars.update(stage.task, advance=steps, note=stage.note)
            elif stage.done >= stage.total or time.monotonic() - self._said_s > LINE_EVERY_S:
                self._said_s = time.monotonic()
                self._say(f"{stage.name}: {stage.done}/{stage.total} {stage.note} ({stage.elapsed_s:.1f} s)".replace("  ", " "))

    def finish(self, stage: Stage, note: str) -> None:
        with self._lock:
            already_said = stage.done >= stage.total and not note
            stage.total = stage.done = max(stage.done, 1)
            stage.note = note or stage.note
            if self._bars is not None and stage.task is not None:
                self._bars.update(stage.task, total=stage.total, completed=stage.total, note=stage.note)
            elif not already_said:
                self._say(f"{stage.name}: done {stage.note} ({stage.elapsed_s:.1f} s)".replace("  ", " "))

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()


def _bars() -> Progress:
    columns: list[Any] = [
        TextColumn("{task.description:<12}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    ]
    return Progress(*columns, console=Console(stderr=True))
