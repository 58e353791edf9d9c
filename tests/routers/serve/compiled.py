"""The peers' stub replica and load client in C: named by environment variables, or compiled from their sources."""

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PEERS = Path(__file__).parents[3].parent / "shared" / "peers"
VARIABLES = {"stub": "STAMPEDE_STUB", "fastload": "STAMPEDE_LOAD"}


@functools.cache
def compiled(name: str) -> Path | None:
    """The program, or None where there is neither a program nor its source with a compiler."""
    given = os.environ.get(VARIABLES[name])
    if given:
        return Path(given)
    compiler, source = shutil.which("gcc") or shutil.which("cc"), PEERS / f"{name}.c"
    if compiler is None or not source.is_file():
        return None
    made = Path(tempfile.mkdtemp(prefix="stampede-peers-")) / name
    subprocess.run([compiler, "-O2", "-w", "-o", made, source, "-lm"], check=True)
    return made


def pinned(core: int) -> list[str]:
    """What comes before a command so that it has this core, and comes first there if the system lets it."""
    real_time = subprocess.run(["chrt", "-r", "5", "true"], capture_output=True).returncode == 0
    return ["taskset", "-c", str(core), *(["chrt", "-r", "5"] if real_time else [])]
