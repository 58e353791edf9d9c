"""`stampede trace describe`: a trace read, described, perhaps compared with a workload made of it, and shown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reports.html_tables import Table
    from workloads.plan import Plan
    from workloads.trace_table import Trace

_WIDTH = 130


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the fidelity table is made with: a study's plan, or phases of `seconds` under one `arrival` process."""

    study: str | None = None
    load_rps: float | None = None
    seconds: float | None = None
    arrival: str | None = None
    seed: int = 0


def describe_trace(
    file: str,
    source: str | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    as_json: bool = False,
    html: str | None = None,
    against: Comparison | None = None,
) -> None:
    """Prints the description of a trace (a file, or a source by name): tables for people, or JSON.

    `against` adds the comparison with a workload made of the trace. `html` writes the page instead and prints its path last.
    ValueError in one line for what cannot be read, made or written.
    """
    from flows.shipped_traces import trace_file
    from workloads.description import describe
    from workloads.trace import load_trace

    page = _page_path(html, as_json, file)
    try:
        trace = load_trace(trace_file(file), source, columns=columns or {})
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror or error}") from error
    rows = None
    if against is not None:
        trace, rows = _compared(trace, against)
    facts = describe(trace)
    if as_json:
        click.echo(json.dumps(facts if rows is None else {**facts, "fidelity": rows}, indent=1, ensure_ascii=False))
        return
    _show(facts, rows)
    if page is not None:
        _write_page(page, facts, rows, f"The trace {Path(file).name}")


def _page_path(html: str | None, as_json: bool, file: str) -> Path | None:
    if html is None:
        return None
    if as_json:
        raise ValueError("--json and --html are two forms of one answer; give one of them")
    page = Path(html)
    if page.is_dir():
        raise ValueError(f"--html {page}: is a folder; name a file")
    if page.exists() and (not page.is_file() or (Path(file).exists() and page.samefile(file))):
        raise ValueError(f"--html {page}: is the trace itself, or no plain file; name another")
    if not page.parent.is_dir():
        raise ValueError(f"--html {page}: no folder {page.parent}")
    return page


def _write_page(page: Path, facts: Mapping[str, Any], rows: list[dict[str, Any]] | None, title: str) -> None:
    from reports.trace_page import build_trace_page

    try:
        build_trace_page(facts, page, fidelity=rows, title=title)
    except OSError as error:
        raise ValueError(f"--html {page}: cannot be written: {error.strerror or error}") from error
    click.echo(str(page))


def _compared(trace: "Trace", against: Comparison) -> tuple["Trace", list[dict[str, Any]]]:
    """The trace as the study selects it, and the fidelity rows of one workload made of it."""
    from flows.study import MAX_PLANNED_REQUESTS
    from workloads.fidelity import fidelity, natural_load_rps
    from workloads.synthesis import synthesize

    if against.study is None:
        plan, load_rps = _own_plan(trace, against), against.load_rps
    else:
        trace, plan, load_rps = _studied(trace, against)
    if load_rps is None:
        load_rps = natural_load_rps(trace, plan, against.seed)
    if load_rps is None:
        raise ValueError(f"--load is missing: the trace {trace.source!r} has no clock to take it from; give requests a second")
    planned = load_rps * sum(plan.durations().values())
    if not planned <= MAX_PLANNED_REQUESTS:
        raise ValueError(f"--load and --seconds plan {planned:.3g} requests; at most {MAX_PLANNED_REQUESTS:.0e} are allowed")
    return trace, fidelity(trace, synthesize(trace, plan, load_rps, against.seed))


def _own_plan(trace: "Trace", against: Comparison) -> "Plan":
    """One steady phase; the trace's own arrivals where it has a clock, else Poisson."""
    from workloads.fidelity import recorded_seconds
    from workloads.plan import Plan

    process = against.arrival or ("trace" if trace.has_timestamps else "poisson")
    seconds = recorded_seconds(trace) if against.seconds is None else against.seconds
    if not 0 < seconds < float("inf"):
        raise ValueError(f"--seconds is {seconds:g}; expected a number > 0")
    nothing = {"kind": "placebo", "d_s": 0.0}
    return Plan(arrival={"process": process}, warmup_s=0.0, steady_s=seconds, recovery_s=0.0, trigger=nothing)


def _studied(trace: "Trace", against: Comparison) -> tuple["Trace", "Plan", float]:
    """The trace, the plan and the load of a study; a load that is a share of a capacity must be given."""
    from flows.load_study import load_study
    from flows.workload_plan import plan_of, selected

    if against.seconds is not None or against.arrival is not None:
        raise ValueError("--seconds and --arrival belong to a comparison without --study: the study has its own")
    study = load_study(str(against.study), trace_known=True)
    load_rps = study.load.rps if against.load_rps is None else against.load_rps
    if load_rps is None:
        raise ValueError(
            f"--load is missing: load.fraction of {against.study} is a share of a capacity that nobody has measured here"
        )
    return selected(trace, study), plan_of(study), load_rps


def _show(facts: Mapping[str, Any], rows: list[dict[str, Any]] | None) -> None:
    """The page's sentences and tables as text."""
    from reports import trace_sentences, trace_tables

    click.echo("\n".join([trace_sentences.headline(facts), *trace_sentences.verdict(facts), *trace_sentences.notes(facts)]))
    found = [
        trace_tables.spread_table(facts),
        trace_tables.arrival_table(facts),
        trace_tables.reuse_table(facts),
        trace_tables.names_table(facts, "languages", "Language"),
        trace_tables.names_table(facts, "models", "Model"),
        trace_tables.published_table(facts),
    ]
    for table in found:
        if table is not None:
            _print_table(table)
    if rows is not None:
        _print_table(trace_tables.fidelity_table(rows))
        click.echo(trace_sentences.fidelity_verdict(rows))


def _print_table(table: "Table") -> None:
    """A table as plain aligned text, as wide as it must be where nobody watches."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Lines
    from rich.text import Text

    console = Console()
    click.echo("\n" + table.caption.removesuffix(" Choose a column’s head to sort."))
    lines = Lines(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(table.columns):
        left = column.text or place == 0
        lines.add_column(column.label, justify="left" if left else "right", overflow="fold", no_wrap=not left)
    for row in table.rows:
        lines.add_row(*(Text(cell.text) for cell in row.cells))
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(lines)
