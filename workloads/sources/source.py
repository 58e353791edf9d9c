"""What every trace source offers. It does not know which sources there are."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from workloads.conversation import Provenance

LONGEST_GAP_US = 1 << 53
"""Longer times between turns (285 years) are unknown: they are read as doubles, which hold no more whole numbers."""
PARQUET_DAMAGE = (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError, NotImplementedError, pa.ArrowException)
"""What Arrow raises for a Parquet file that is cut, damaged or of types that Python cannot hold."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader may need besides the file: a seed (ticks, generated traces) and the columns a user mapped."""

    seed: int = 0
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """What became of a source's rows, filled in while they are read: read, dropped and changed by reason, and notes."""

    rows_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    has_sessions: bool = True
    token_counts: str = "exact"
    synthetic: bool = False


def count_reason(counter: Counter[str], reason: str, kind: str) -> None:
    """Count a reason that quotes the file; only its kind once there are a hundred reasons, so memory is bounded."""
    counter[printable(reason) if printable(reason) in counter or len(counter) < 100 else kind] += 1


@dataclass(frozen=True, slots=True)
class Source:
    """A kind of public trace: how to recognise its files, read one, and get it by name.

    `read(path, options, tally)` yields tables of `workloads.trace_table.SCHEMA` (whole conversations, any number a table, in the
    source's order), fills in the tally, holds no more than it must in memory, and raises ValueError "FILE:LINE: …" on the first
    malformed row. `fetch()` returns the path of the file behind the name (shipped, cached or downloaded) and raises
    ValueError in one line when that cannot be had; None: the source has files only. `published` holds the figures its authors
    state, keyed like `workloads.description.describe` ("arrivals.rate_rps", "input_tokens.mean", …). `takes_columns`:
    `ReadOptions.columns` means something to it.
    """

    name: str
    about: str
    licence: str
    citation: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions, Tally], Iterator[Any]]
    fetch: Callable[[], Path] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    takes_columns: bool = False

    def provenance(self, path: Path, tally: Tally) -> Provenance:
        """What a report says of a trace that was read whole from `path`."""
        return {
            "source": self.name,
            "licence": self.licence,
            "citation": self.citation,
            "file": path.name,
            "sha256": path_sha256(path),
            "rows_read": tally.rows_read,
            "rows_dropped": dict(sorted(tally.dropped.items())),
            "rows_changed": dict(sorted(tally.changed.items())),
            "token_counts": tally.token_counts,
            "synthetic": tally.synthetic,
            "has_timestamps": False,
            "has_sessions": tally.has_sessions,
            "notes": list(tally.notes),
        }


def first_text(path: Path, size: int = 65536) -> str:
    """The beginning of a file as text, without a byte-order mark; empty for a folder or a binary file."""
    if path.is_dir():
        return ""
    with path.open("rb") as file:
        head = file.read(size)
    return "" if b"\x00" in head else head.decode("utf-8-sig", errors="ignore")


def printable(text: str) -> str:
    """The text itself; escaped where it holds what would break or hide a line (controls, separators, half characters)."""
    return text if text.isprintable() else repr(text)[1:-1]


def clause(error: BaseException) -> str:
    """What a library's error says, for the end of a line: short, plain, never empty."""
    return printable(" ".join(str(error).split()) or type(error).__name__)[:200]


def check_rows(read: int, file: Any) -> None:
    """ValueError where a Parquet file gave other rows than its footer counts: Arrow takes a cut file's end for the last one."""
    if read != file.metadata.num_rows:
        raise ValueError(f"{read} rows, its footer says {file.metadata.num_rows}")


def path_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file; of the names and hashes of all its files for a folder."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        listing = "".join(f"{p.relative_to(path).as_posix()} {path_sha256(p)}\n" for p in inside)
        return hashlib.sha256(listing.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
