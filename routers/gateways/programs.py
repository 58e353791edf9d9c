"""Where a gateway's program lies on this host. It knows neither versions nor options."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "STAMPEDE_GATEWAYS"


class MissingProgram(ValueError):
    """A gateway's program is not installed, or not where it was looked for."""


def find_program(name: str, environ: Mapping[str, str] | None = None) -> Path:
    """The program's path: from the folders in STAMPEDE_GATEWAYS, then beside this Python, on PATH, in /usr/sbin.

    Raises MissingProgram in one line.
    """
    environ = os.environ if environ is None else environ
    given = [folder for folder in environ.get(VARIABLE, "").split(os.pathsep) if folder]
    places = [*given, str(Path(sys.executable).parent), *environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        where = os.pathsep.join(given) or "not set"
        raise MissingProgram(
            f"gateway program {name!r} was not found; set {VARIABLE} (now: {where}) to its folder, or put it on PATH"
        )
    return Path(found).absolute()


def python_of(script: Path) -> Path:
    """The Python that a console script belongs to, from its first line; else the one beside it."""
    with script.open("rb") as lines:
        first = lines.readline(512)
    if first.startswith(b"#!") and b"python" in first:
        return Path(first[2:].split()[0].decode())
    return script.parent / "python"
