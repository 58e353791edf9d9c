"""The small record beside a downloaded file: where it came from and what it was then. It does not know how it came."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """`address` is a URL or `repo@revision/path`; `commit` and `etag` are what the other side called this content.

    `fetched_utc` is ISO 8601; None for a file that lay there before the record did. `mtime_ns` tells a touched file cheaply.
    """

    address: str
    commit: str | None
    etag: str | None
    size_bytes: int
    sha256: str
    mtime_ns: int
    fetched_utc: str | None
    licence: str


def read_origin(path: Path) -> Origin | None:
    """The record in the file `path`; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Origin(**{field.name: found[field.name] for field in fields(Origin)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_origin(path: Path, origin: Origin) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(asdict(origin), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)
