"""What a person sees of a download on stderr: lines, and a bar on a terminal. It does not know how the bytes come."""

import sys
import time
from types import TracebackType
from typing import Any, Self


class TransferShown:
    """One file's transfer: a line at its start and at its end, and between them a bar where stderr is a terminal."""

    def __init__(self, source: str, name: str, place: str) -> None:
        self._source, self._name, self._place = source, name, place
        self._start_s = time.monotonic()
        self._begun = False
        self._bar: Any = None
        self._task: Any = None

    def said(self, text: str) -> None:
        print(f"{self._source}: {text}", file=sys.stderr, flush=True)

    def begin(self, total_bytes: int | None, offset_bytes: int) -> None:
        """The other side has answered: it will send what lies between the offset and the total (None: it does not say)."""
        size = "size not told" if total_bytes is None else bytes_text(total_bytes)
        if not self._begun:
            self.said(f"fetching {self._name}, {size}, from {self._place}")
        if offset_bytes:
            self.said(f"going on after {bytes_text(offset_bytes)}")
        self._begun = True
        if sys.stderr.isatty():
            self._show_bar(total_bytes, offset_bytes)

    def advance(self, size_bytes: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=size_bytes)

    def end(self, size_bytes: int, sha256: str) -> None:
        self._stop()
        seconds = time.monotonic() - self._start_s
        self.said(f"{self._name}: {bytes_text(size_bytes)} in {seconds:.1f} s, sha256 {sha256[:16]}")

    def _show_bar(self, total_bytes: int | None, offset_bytes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

        if self._bar is None:
            columns = (BarColumn(bar_width=40), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._name)
            self._bar.start()
        self._bar.update(self._task, total=total_bytes, completed=offset_bytes)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()


def bytes_text(size: float) -> str:
    """A size a person reads: powers of 1,000."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
