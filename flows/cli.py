"""The command line: what each command is called and takes. Everything heavy is imported by the command that needs it."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from flows.failure import report_failure, say

DONE, FAILED, BAD_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `stampede`; always ends in SystemExit: 0 done, 1 failed or void, 2 bad usage or bad study."""
    code = _code(arguments)
    if code == FAILED and arguments is None:
        # Prefect keeps a failed task's frames, and a DuckDB connection in one of them prints pages of its own at a normal exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _code(arguments: list[str] | None) -> int:
    try:
        result = commands.main(arguments, prog_name="stampede", standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except click.ClickException as error:
        say(error.format_message())
    except ValueError as error:
        say(str(error))
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        return INTERRUPTED
    except Exception as error:
        report_failure("failed", error)
        return FAILED
    return BAD_USAGE


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="stampede", prog_name="stampede")
def commands() -> None:
    """Which LLM router should stand in front of my pool, on my traffic, and which one comes back after a stampede?"""


@commands.command()
@click.argument("study", required=False)
@click.option("--out", metavar="DIR", help="Folder of the run (default: runs/<study>-<utc time>).")
@click.option("--set", "sets", metavar="KEY.PATH=VALUE", multiple=True, help="Change one key of the study; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Shift the seeds: N, N+1, …")
@click.option("--resume", metavar="DIR", help="Finish an interrupted run: only what is missing is run.")
@click.option("--processes", type=click.IntRange(1, 256), metavar="N", help="Cells run at once (default: the cores).")
def run(study: str | None, **options: Any) -> int:
    """Run STUDY (a YAML file or a preset's name; default quickstart); the last line on stdout is the report's path."""
    from flows.run_command import run_to_report

    return run_to_report(study, **{**options, "sets": list(options["sets"])})


@commands.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
def report(runs: tuple[str, ...]) -> int:
    """Build the tables and the page of each RUN folder anew, from its Parquet files."""
    from flows.run_command import rebuild_reports

    return rebuild_reports([Path(run) for run in runs])


@commands.command()
def doctor() -> None:
    """Say what is installed, which engines, GPUs and gateways were found, and what can run here."""
    from flows.doctor import findings

    found = list(findings())
    width = max(len(name) for name, _ in found)
    for name, text in found:
        click.echo(f"{name:<{width}}  {text}")


@commands.group()
def trace() -> None:
    """Trace data sets: list the known ones, import one, describe one."""


@trace.command("list")
def list_traces() -> None:
    """The trace sources that are known by name."""
    from workloads.sources import SOURCES

    for name, source in SOURCES.items():
        click.echo(f"{name:<16} {source.about} [{source.licence}]")


@trace.command("import")
@click.argument("name")
@click.option("--from", "from_path", metavar="FILE", help="The published file; without it the source is fetched by name.")
@click.option("--out", metavar="FILE", help="Parquet file to write (default: data/NAME.parquet).")
def import_trace(name: str, from_path: str | None, out: str | None) -> None:
    """Convert the data set NAME to one Parquet file that a study can name as workload.trace."""
    from workloads.sources import SOURCES
    from workloads.trace import import_trace as convert

    if name not in SOURCES:
        raise ValueError(f"NAME = {name!r}: no such trace source; known: {', '.join(SOURCES)}")
    path = Path(out or f"data/{name}.parquet")
    if from_path is not None and not Path(from_path).is_file():
        raise ValueError(f"--from {from_path}: no such file")
    if path.is_dir():
        raise ValueError(f"--out {path}: is a folder; name a file")
    try:
        found = convert(name, from_path, path)
    except OSError as error:
        raise ValueError(f"--out {path}: cannot be written: {error.strerror or error}") from error
    dropped = ", ".join(f"{count} {reason}" for reason, count in found.provenance["rows_dropped"].items()) or "none"
    click.echo(f"{len(found.conversations)} sessions, {found.turn_count} turns; rows dropped: {dropped}", err=True)
    click.echo(str(path))


@trace.command("describe")
@click.argument("file")
@click.option("--source", metavar="NAME", help="The file's format, where its content does not tell.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of YAML.")
def describe_trace(file: str, source: str | None, as_json: bool) -> None:
    """Arrivals, lengths, turns, prefix reuse and provenance of FILE (or of a source by name)."""
    import json

    import yaml

    from workloads.trace import describe, load_trace

    plain = json.loads(json.dumps(describe(load_trace(file, source)), default=float))
    text = json.dumps(plain, indent=1) if as_json else yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    click.echo(text.rstrip())


if __name__ == "__main__":
    main()
