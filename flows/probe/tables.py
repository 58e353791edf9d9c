"""A probe's results.duckdb: its answers, the seconds they rest on, and what was found. It concludes nothing itself."""

import os
from collections.abc import Sequence
from pathlib import Path

from reports.database import open_database
from reports.probe.asks import Answer
from reports.probe.findings import Findings
from reports.probe.tables import write_answers, write_findings


def write_results(run: Path, answers: Sequence[Answer], findings: Findings) -> Path:
    """`run`/results.duckdb, written aside and renamed. Tables: answers, seconds (a row a cell and second), one a finding type."""
    target, aside = run / "results.duckdb", run / f".results-{os.getpid()}.duckdb"
    aside.unlink(missing_ok=True)
    try:
        with open_database(str(aside)) as con:
            write_answers(con, answers)
            write_findings(con, findings)
            files = [str(run / answer.evidence) for answer in answers]
            con.execute(
                "CREATE TABLE seconds AS SELECT parse_filename(filename, true) AS cell_id, * EXCLUDE (filename) "
                "FROM read_parquet(?, filename = true) ORDER BY cell_id, t_s",
                [files],
            )
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
        aside.with_suffix(".duckdb.wal").unlink(missing_ok=True)
    return target
