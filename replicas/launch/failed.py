"""The one error of this package for what an engine did, as opposed to what its user asked for. It knows no engine."""

from pathlib import Path

TAIL_LINES = 25


class EngineFailed(RuntimeError):
    """An engine did not do what it must; the first line says what, further lines are the end of its log."""


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log that hold anything; it reads at most 64 KiB."""
    if not log.is_file():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 65_536))
        text = file.read().decode(errors="replace")
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:]) or "(empty log)"
