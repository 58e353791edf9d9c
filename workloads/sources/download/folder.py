"""Where files of public traces are kept on this machine. It does not know which files."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/stampede`, else `~/.cache/stampede`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stampede"
