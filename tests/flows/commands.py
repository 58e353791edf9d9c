"""Runs `stampede` as a user does: a process of its own, with its own cache."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment(cache: Path) -> dict[str, str]:
    """Ours without any Prefect setting, so that the embedded server is used, its database under `cache`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT")}
    return kept | {"XDG_CACHE_HOME": str(cache)}


def stampede(*arguments: str, cache: Path, cwd: Path = ROOT, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """The finished process, output captured."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment(cache) | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=timeout_s
    )


def start_stampede(*arguments: str, cache: Path, log: Path) -> subprocess.Popen[bytes]:
    """A running process, its output in `log`."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    with log.open("wb") as file:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment(cache), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
