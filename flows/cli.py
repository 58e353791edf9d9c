"""The command line: what each command is called and takes. Everything heavy is imported by the command that needs it."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from flows.cli_engines import calibrate, profile, serve
from flows.cli_traces import trace
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
@click.argument("study", required=False)
@click.option("--out", metavar="DIR", help="Folder of the run (default: runs/<study>-<utc time>).")
@click.option("--set", "sets", metavar="KEY.PATH=VALUE", multiple=True, help="Change one key of the study; repeatable.")
@click.option("--resume", metavar="DIR", help="Finish an interrupted probe: only what is missing is run.")
@click.option("--phases", metavar="NAME,…", help="Only these phases and what they need (default: all).")
@click.option("--processes", type=click.IntRange(1, 256), metavar="N", help="Cells run at once (default: the cores).")
def probe(study: str | None, **options: Any) -> int:
    """Map what STUDY's routers survive (default: the preset `probe`), and why they fail; the last line is the report's path."""
    from flows.probe.command import probe_to_report

    return probe_to_report(study, **{**options, "sets": list(options["sets"])})


@commands.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
def report(runs: tuple[str, ...]) -> int:
    """Build the tables and the page of each RUN folder anew, from its Parquet files."""
    from flows.probe.command import rebuild_reports

    return rebuild_reports([Path(run) for run in runs])


@commands.command()
@click.argument("folder", metavar="DIR")
@click.option("--out", metavar="FILE", help="The page (default: DIR/history.html).")
@click.option("--gate", type=click.Choice(["sure", "likely", "none"]), default="sure", help="What exits with 1 (default sure).")
@click.option("--since", type=click.IntRange(min=1), default=1, metavar="N", help="The last N nights are news (default 1).")
@click.option("--nights", type=click.IntRange(min=1), metavar="N", help="Look back N nights only (default: all).")
@click.option("--floor", type=click.FloatRange(min=0, min_open=True), metavar="CV", help="Least noise believed (default 0.005).")
@click.option("--summary", metavar="FILE.md", help="Write a Markdown summary, for a pull request or chat.")
@click.option("--markdown", is_flag=True, help="The same summary on stdout, before the page's path.")
def history(folder: str, **options: Any) -> int:
    """Judge the nights in DIR (a folder of runs): what changed, since when, by how much; exit code 1 for a regression."""
    from flows.history import write_history

    return write_history(folder, **options)


@commands.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--out", metavar="FILE", help="The page (default: compare.html in the last RUN).")
@click.option("--gate", type=click.Choice(["sure", "likely", "none"]), default="sure", help="What exits with 1 (default sure).")
@click.option("--floor", type=click.FloatRange(min=0), metavar="SHARE", help="Smaller differences count as none (default 0.005).")
@click.option("--summary", metavar="FILE.md", help="Write a Markdown summary, for a pull request or chat.")
@click.option("--markdown", is_flag=True, help="The same summary on stdout, before the page's path.")
def compare(runs: tuple[str, ...], **options: Any) -> int:
    """Hold RUNs against the first: differences over equal workloads, verdicts, settings; exit code 1 where one is worse."""
    from flows.compare import write_comparison

    return write_comparison(runs, **options)


@commands.command()
@click.option("--install", type=click.Choice(["vllm", "sglang"]), help="Make an environment with this engine, for the CPU.")
@click.option("--into", metavar="DIR", help="With --install: its folder (default: among the user's data).")
def doctor(install: str | None, into: str | None) -> int:
    """Say what is installed, which engines, GPUs and gateways were found, and what can run here."""
    from flows.doctor import findings, install_engine

    if install:
        return install_engine(install, into)
    if into is not None:
        raise ValueError(f"--into {into!r} belongs to --install")
    found = list(findings())
    width = max(len(name) for name, _ in found)
    for name, text in found:
        click.echo(f"{name:<{width}}  {text}")
    return DONE


for _more in (trace, serve, calibrate, profile):
    commands.add_command(_more)


if __name__ == "__main__":
    main()
