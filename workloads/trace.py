"""A trace by name or by file. It does not know the formats (the sources do) nor what will be sent."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workloads.conversations_file import Written, is_conversations_file, read_conversations, stream_conversations
from workloads.selection import Selection, select
from workloads.sources import SOURCES
from workloads.sources.archive import opened
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.trace_table import TEXTS, Trace, joined

__all__ = ["import_trace", "load_trace"]


def load_trace(
    name_or_path: str,
    source: str | None = None,
    *,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    texts: bool = False,
) -> Trace:
    """A source's name ("synthetic", "sharegpt", …) or a file: a `conversations.parquet` or a public format, packed or not.

    A file (or folder) is recognised by its content unless `source` names its format. `columns` maps names for the source `own`;
    the seed matters only to sources that need random numbers (Mooncake's ticks, ServeGen). Texts are kept where asked for.
    Raises ValueError in one line: unknown name, missing or unknown file, malformed row.
    """
    path, known = _located(name_or_path, source)
    if columns and known is None and is_conversations_file(path):
        raise ValueError(
            f"{path}: columns are mapped ({', '.join(columns)}), but the trace is imported already; map them on import"
        )
    if known is None and is_conversations_file(path):
        trace = read_conversations(path, texts=texts)
        if source is not None and trace.source != source:
            raise ValueError(f"{path}: holds a trace of {trace.source}, not of {source}")
        return trace
    with opened(path) as plain:
        if is_conversations_file(plain):
            return read_conversations(plain, texts=texts)
        chosen = known or _recognised(plain, bool(columns))
        tally, tables = Tally(), _tables(chosen, plain, ReadOptions(seed, columns or {}))
        table = joined(_without_texts(t) if not texts else t for t in tables(tally))
        return Trace.of_table(chosen.name, table, chosen.provenance(path, tally))


def import_trace(
    source: str,
    from_path: str | Path | None,
    out_path: str | Path,
    *,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    selection: Selection | None = None,
) -> Written:
    """Read a public file (or download the source by name when `from_path` is None) and write it as `conversations.parquet`.

    The trace streams from file to file; only a selection needs it whole in memory.
    """
    if source not in SOURCES:
        raise ValueError(f"no trace source {source!r}; allowed: {', '.join(SOURCES)}")
    if from_path is not None and not Path(from_path).exists():
        raise ValueError(f"{from_path}: no such file")
    named = (source, None) if from_path is None else (str(from_path), source)
    path, known = _located(*named)
    if known is None or (selection is not None and selection.chooses):
        trace = load_trace(*named, seed=seed, columns=columns, texts=True)
        chosen = select(trace, selection or Selection())
        return stream_conversations(chosen.source, [chosen.table], lambda: chosen.provenance, Path(out_path))
    with opened(path) as plain:
        tally, tables = Tally(), _tables(known, plain, ReadOptions(seed, columns or {}))
        return stream_conversations(known.name, tables(tally), lambda: known.provenance(path, tally), Path(out_path))


def _located(name_or_path: str, source: str | None) -> tuple[Path, Source | None]:
    """The file or folder that is meant, and the source to read it with where that is known."""
    if source is not None and source not in SOURCES:
        raise ValueError(f"no trace source {source!r}; allowed: {', '.join(SOURCES)}")
    path = Path(name_or_path)
    if path.is_file() or (path.is_dir() and name_or_path not in SOURCES):
        return path, SOURCES[source] if source and not is_conversations_file(path) else None
    if source is not None and name_or_path in SOURCES:
        raise ValueError(f"{source} names the format of a file; {name_or_path!r} is a source's name")
    if name_or_path not in SOURCES:
        raise ValueError(f"{name_or_path}: no such trace: neither a file nor a source's name; sources: {', '.join(SOURCES)}")
    named = SOURCES[name_or_path]
    if named.fetch is None:
        raise ValueError(f"{name_or_path} has no file of its own; give a file: stampede trace import {name_or_path} --from FILE")
    found = named.fetch()
    return found, None if is_conversations_file(found) else named


def _tables(source: Source, path: Path, options: ReadOptions) -> Callable[[Tally], Iterator[Any]]:
    """How to read a file; ValueError for mapped columns that the source would ignore."""
    if options.columns and not source.takes_columns:
        raise ValueError(f"{path}: columns are mapped ({', '.join(options.columns)}), which {source.name} takes none of; use own")
    return lambda tally: source.read(path, options, tally)


def _without_texts(table: Any) -> Any:
    return table.drop_columns([name for name in TEXTS if name in table.column_names])


def _recognised(path: Path, mapped: bool) -> Source:
    """The first source that knows the file by its content; with mapped columns, a table that none knows is the user's own."""
    for source in SOURCES.values():
        if source.recognises(path):
            return source
    if mapped:
        return SOURCES["own"]
    raise ValueError(f"{path}: not recognised as any of {', '.join(SOURCES)} or a conversations.parquet")
