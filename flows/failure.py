"""How a failure is told: one line on stderr, the traceback in a log. It does not know what failed."""

import sys
import tempfile
import traceback
from pathlib import Path


def report_failure(what: str, error: Exception, log: Path | None = None) -> None:
    """One line on stderr that names the log; without a log (or its folder) a temporary file takes the traceback."""
    if log is None or not log.parent.is_dir() or not _logged(error, log):
        log = Path(tempfile.mkstemp(prefix="stampede-", suffix=".log")[1])
        _logged(error, log)
    say(f"{what}: {type(error).__name__}: {error}; log: {log}")


def _logged(error: Exception, log: Path) -> bool:
    """Whether the traceback could be written: the failure may be a full disk or a folder that cannot be written."""
    try:
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return False
    return True


def say(line: str) -> None:
    """A line of ours on stderr."""
    print(f"stampede: {' '.join(line.split())}", file=sys.stderr, flush=True)
