"""Turns a run's Parquet files into results.duckdb, one SQL pass a table. It does not know what ran, only what was written."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reports.cell_facts import finished_cells, load_facts, load_slo, read_facts
from reports.database import open_database, run_sql
from reports.live_facts import load_live_facts
from reports.live_samples import load_live_samples
from reports.pool_events import load_events

if TYPE_CHECKING:
    import duckdb

SEND_LAG_LIMIT_S = 0.1  # the p99 of sent − scheduled above which the load was not delivered as planned
LIVE_LAG_LIMIT_S = 0.05
"""The same for a live run, and for how late its sender may read: beyond it the tail of TTFT tells of the sender, not of the pool.

A healthy sender's p99 is 0.24 ms at 500 requests/s with a core to itself and 4 ms at 1,500/s on a machine that it shares
(LOG.md): ten times the worse of the two, and some 2% of an SLO of seconds. An idle engine answers after 20–50 ms.
"""
STEPS = (
    "slo",
    "attempts",
    "samples",
    "decisions",
    "outcomes",
    "requests",
    "replica_loads",
    "cells",
    "seconds",
    "certificates",
    "prefix_hits",
    "twins",
)


def build_tables(run: Path) -> Path:
    """Writes `run`/results.duckdb aside, renames it when whole, and returns its path.

    Reads cells/*, workloads/* and study.yaml of the run. Raises ValueError in one line when a file is missing or wrong.
    """
    import duckdb

    target = run / "results.duckdb"
    aside = run / f".results-{os.getpid()}.duckdb"
    aside.unlink(missing_ok=True)
    try:
        with open_database(str(aside)) as con:
            _fill(con, run)
        aside.replace(target)
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise ValueError(f"{run}: cannot be read: {str(error).splitlines()[0]}") from error
    finally:
        aside.unlink(missing_ok=True)
        aside.with_suffix(".duckdb.wal").unlink(missing_ok=True)
    return target


def outcomes_of(con: "duckdb.DuckDBPyConnection", attempts: Path, facts: dict[str, Any], slo: Mapping[str, Any]) -> None:
    """Creates `attempts` and `outcomes` (one row a request, `slo_met`) of one cell in `con`."""
    load_slo(con, slo)
    load_facts(con, [(attempts, attempts, facts)])
    con.execute("SET VARIABLE attempt_files = ?", [[str(attempts)]])
    for step in ("slo", "attempts", "outcomes"):
        run_sql(con, step)


def _fill(con: "duckdb.DuckDBPyConnection", run: Path) -> None:
    from reports.arms import write_arms
    from reports.verdict_rows import write_verdicts

    load_slo(con, _slo(run))
    _load_cells(con, run)
    con.execute("SET VARIABLE send_lag_limit_s = ?", [SEND_LAG_LIMIT_S])
    con.execute("SET VARIABLE live_lag_limit_s = ?", [LIVE_LAG_LIMIT_S])
    for step in STEPS:
        run_sql(con, step)
    load_live_samples(con)
    write_verdicts(con)
    run_sql(con, "repeats")
    write_arms(con)


def _slo(run: Path) -> dict[str, Any]:
    """The study's limits; raises ValueError when study.yaml is missing or holds none."""
    file = run / "study.yaml"
    if not file.is_file():
        raise ValueError(f"{file}: missing; allowed: the resolved study of the run")
    try:
        study = yaml.safe_load(file.read_text())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{file}:{line}: not YAML: {error.problem}") from error
    slo = study.get("slo") if isinstance(study, dict) else None
    if not isinstance(slo, dict):
        raise ValueError(f"{file}: slo: {slo!r}; allowed: a mapping of ttft_s, tpot_s, e2e_s")
    return slo


def _load_cells(con: "duckdb.DuckDBPyConnection", run: Path) -> None:
    """Loads the facts of each finished cell and names its files for the SQL."""
    cells = []
    for folder in finished_cells(run):
        facts = read_facts(folder)
        cells.append((folder / "attempts.parquet", run / "workloads" / f"{facts.get('workload_hash')}.parquet", facts))
    load_facts(con, cells)
    told = [(attempts.with_name("cell.json"), facts) for attempts, _, facts in cells]
    load_events(con, told)
    load_live_facts(con, told)
    for variable, column in (("attempt", "attempts"), ("sample", "samples"), ("decision", "decisions"), ("workload", "workload")):
        files = [name for (name,) in con.execute(f"SELECT DISTINCT {column}_file FROM cell_facts ORDER BY 1").fetchall()]
        for name in files:
            if not Path(name).is_file():
                raise ValueError(f"{name}: missing; allowed: the file that the replay wrote")
        con.execute(f"SET VARIABLE {variable}_files = ?", [files])
