"""The bodies of `stampede trace list` and `stampede trace import`. They convert nothing themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from workloads.conversations_file import Written


def list_sources() -> None:
    """A line a source: its name, what it is, its licence."""
    from workloads.sources import SOURCES

    width = max(len(name) for name in SOURCES)
    for name, source in SOURCES.items():
        click.echo(f"{name:<{width}}  {source.about} [{source.licence}]")


def import_to_file(
    name: str, from_path: str | None, out: str | None, maps: Sequence[str], selects: Sequence[str], seed: int
) -> None:
    """Convert a data set to one Parquet file; its path is the last line on stdout, what was dropped goes to stderr."""
    from workloads.selection import Selection
    from workloads.sources import SOURCES
    from workloads.trace import import_trace

    if name not in SOURCES:
        raise ValueError(f"NAME = {name!r}: no such trace source; known: {', '.join(SOURCES)}")
    path = Path(out or f"data/{name}.parquet")
    if from_path is not None and not Path(from_path).exists():
        raise ValueError(f"--from {from_path}: no such file or folder")
    if path.is_dir():
        raise ValueError(f"--out {path}: is a folder; name a file")
    if from_path is not None and path.exists() and path.samefile(from_path):
        raise ValueError(f"--out {path}: is the file that --from names; name another")
    selection = Selection.of(dict(_read(s, "--select", "turns=[2, null]") for s in selects))
    columns = mapped(maps)
    try:
        found = import_trace(name, from_path, path, seed=seed, columns=columns, selection=selection)
    except OSError as error:
        if error.filename == from_path is not None and not isinstance(error, FileExistsError | NotADirectoryError):
            raise ValueError(f"--from {from_path}: cannot be read: {error.strerror or error}") from error
        raise ValueError(f"--out {path}: cannot be written: {error.strerror or error}") from error
    for line in said_of(found):
        click.echo(line, err=True)
    click.echo(str(path))


def said_of(found: "Written") -> list[str]:
    """What a person wants to know of a trace that was imported: size, what was dropped or changed, notes, licence."""
    provenance = found.provenance
    lines = [f"{found.sessions:,} sessions, {found.turns:,} turns from {provenance['rows_read']:,} rows"]
    for what, counts in (("dropped", provenance["rows_dropped"]), ("changed", provenance["rows_changed"])):
        lines += [f"{what}: {count:,} × {reason}" for reason, count in counts.items()] or [f"rows {what}: none"]
    lines += [f"note: {note}" for note in provenance["notes"]]
    return [*lines, f"tokens: {provenance['token_counts']}", f"licence: {provenance['licence']}"]


def mapped(maps: Sequence[str]) -> dict[str, str]:
    """KEY=COLUMN texts as a mapping."""
    return dict(_split(m, "--map", "output_tokens=COLUMN") for m in maps)


def _split(text: str, option: str, example: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals and value.strip()):
        raise ValueError(f"{option} {text}: expected KEY=VALUE, as in {option} {example}")
    return key.strip(), value.strip()


def _read(text: str, option: str, example: str) -> tuple[str, Any]:
    import yaml

    key, value = _split(text, option, example)
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"{option} {text}: the value is no YAML") from error
