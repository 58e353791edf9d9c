"""A trace by name or by file. It does not know the formats (the sources do) nor what will be sent."""

from pathlib import Path

from workloads.conversation import Trace
from workloads.conversations_file import is_conversations_file, read_conversations, write_conversations
from workloads.description import describe
from workloads.sources import SOURCES, Source

__all__ = ["describe", "import_trace", "load_trace"]


def load_trace(name_or_path: str, source: str | None = None, *, seed: int = 0) -> Trace:
    """A source's name ("synthetic", "sharegpt", …) or a file: a `conversations.parquet` or a public format.

    A file is recognised by its content unless `source` names its format. The seed matters only to sources that need random
    numbers (Mooncake's ticks). Raises ValueError in one line: unknown name, missing or unknown file, malformed row.
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"no trace source {source!r}; allowed: {', '.join(SOURCES)}")
    path = Path(name_or_path)
    if path.is_file():
        return _load_file(path, source, seed)
    if source is not None and name_or_path in SOURCES:
        raise ValueError(f"{source} names the format of a file; {name_or_path!r} is a source's name")
    if name_or_path in SOURCES:
        named = SOURCES[name_or_path]
        if named.fetch is None:
            raise ValueError(
                f"{name_or_path} has no file of its own; give a file: stampede trace import {name_or_path} --from FILE"
            )
        return named.load(named.fetch(), seed)
    what = "is a folder, not a file" if path.is_dir() else "no such trace: neither a file nor a source's name"
    raise ValueError(f"{name_or_path}: {what}; sources: {', '.join(SOURCES)}")


def import_trace(source: str, from_path: str | Path | None, out_path: str | Path, *, seed: int = 0) -> Trace:
    """Read a public file (or download the source by name when `from_path` is None) and write it as `conversations.parquet`."""
    if source not in SOURCES:
        raise ValueError(f"no trace source {source!r}; allowed: {', '.join(SOURCES)}")
    if from_path is not None and not Path(from_path).is_file():
        raise ValueError(f"{from_path}: no such file")
    trace = load_trace(source if from_path is None else str(from_path), None if from_path is None else source, seed=seed)
    write_conversations(trace, Path(out_path))
    return trace


def _load_file(path: Path, source: str | None, seed: int) -> Trace:
    if is_conversations_file(path):
        trace = read_conversations(path)
        if source is not None and trace.source != source:
            raise ValueError(f"{path}: holds a trace of {trace.source}, not of {source}")
        return trace
    return (SOURCES[source] if source else _recognised(path)).load(path, seed)


def _recognised(path: Path) -> Source:
    for source in SOURCES.values():
        if source.recognises(path):
            return source
    raise ValueError(f"{path}: not recognised as any of {', '.join(SOURCES)} or a conversations.parquet")
