"""DuckDB as the tables need it: opening, a step's SQL, many rows at once. It does not know any table."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb

SQL = Path(__file__).parent / "sql"


def open_database(file: str = ":memory:") -> "duckdb.DuckDBPyConnection":
    """A database for writing: no progress bar, nothing fetched from anywhere."""
    import duckdb

    con = duckdb.connect(file)
    con.execute("SET enable_progress_bar = false")
    con.execute("SET autoinstall_known_extensions = false")
    return con


def run_sql(con: "duckdb.DuckDBPyConnection", step: str) -> None:
    """Runs reports/sql/`step`.sql."""
    con.execute((SQL / f"{step}.sql").read_text())


def insert_rows(con: "duckdb.DuckDBPyConnection", table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Appends `rows` as columns of one statement: `executemany` costs ~0.5 ms a row, Arrow and frames import pandas."""
    if rows:
        columns = ", ".join(["unnest(?)"] * len(rows[0]))
        con.execute(f"INSERT INTO {table} SELECT {columns}", [list(column) for column in zip(*rows, strict=True)])
