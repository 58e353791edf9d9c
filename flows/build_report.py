"""Tables, then page, of a run folder, and which of its cells are void. What they show is the reports package's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.progress import RunProgress

Step = Callable[[Path], Path]
"""From a run folder to the file that was made."""


def build_tables(run: Path) -> Path:
    from reports.tables import build_tables

    return build_tables(run)


def build_page(run: Path) -> Path:
    from reports.page import build_page

    return build_page(run)


def build_report(path: Path, progress: RunProgress, aggregate: Step = build_tables, report: Step = build_page) -> dict[str, Any]:
    """Tables and page of a run folder; returns {"report", "run", "void"}.

    A flow hands in its tasks for the two steps.
    """
    stage = progress.stage("report", 2)
    database = aggregate(path)
    stage.advance(note="tables")
    page = report(path)
    stage.finish("page")
    return {"report": str(page), "run": str(path), "void": void_cells(database)}


def void_cells(database: Path) -> list[str]:
    """Cells whose delivered-load certificate is void."""
    import duckdb

    with duckdb.connect(str(database), read_only=True) as con:
        return [str(row[0]) for row in con.sql("SELECT cell_id FROM certificates WHERE void ORDER BY cell_id").fetchall()]
