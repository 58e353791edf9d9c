"""What every trace source offers. It does not know which sources there are."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.conversation import Trace


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of public trace: how to recognise its files, read one, and get it by name.

    `load(path, seed)` raises ValueError "FILE:LINE: …" on the first malformed row; the seed matters only where the source needs
    random numbers. `fetch()` returns the path of the file behind the name (shipped, cached or downloaded); it raises
    ValueError in one line when that cannot be had. None: the source has files only.
    """

    name: str
    about: str
    licence: str
    citation: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, int], Trace]
    fetch: Callable[[], Path] | None = None


def first_text(path: Path, size: int = 65536) -> str:
    """The beginning of a file as text, without a byte-order mark; empty for a binary file."""
    with path.open("rb") as file:
        head = file.read(size)
    return "" if b"\x00" in head else head.decode("utf-8-sig", errors="ignore")


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
