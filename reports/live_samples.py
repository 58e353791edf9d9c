"""Tables `gateway_samples` and `gpu_samples` from the files beside a live cell's attempts. A cell may have none."""

from pathlib import Path
from typing import TYPE_CHECKING

from reports.database import run_sql

if TYPE_CHECKING:
    import duckdb

_COLUMNS = {
    "gateway": {"t_us": "BIGINT", "cpu_s": "DOUBLE", "memory_bytes": "BIGINT"},
    "gpu": {"t_us": "BIGINT", "card": "VARCHAR", "busy": "DOUBLE", "memory_used_bytes": "BIGINT", "memory_bytes": "BIGINT"},
}
_EMPTY = {
    "gateway": "cell_id VARCHAR, t_s DOUBLE, cores DOUBLE, memory_bytes BIGINT",
    "gpu": "cell_id VARCHAR, t_s DOUBLE, card VARCHAR, busy DOUBLE, memory_used_bytes BIGINT, memory_bytes BIGINT",
}


def load_live_samples(con: "duckdb.DuckDBPyConnection") -> None:
    """Creates both tables, empty where no cell has such a file with rows; ValueError names a file and the column it lacks."""
    folders = [Path(name).parent for (name,) in con.execute("SELECT attempts_file FROM cell_facts ORDER BY 1").fetchall()]
    for kind, columns in _COLUMNS.items():
        files = [str(file) for folder in folders if _has_rows(file := folder / f"{kind}_samples.parquet", list(columns))]
        if not files:
            con.execute(f"CREATE TABLE {kind}_samples ({_EMPTY[kind]})")
            continue
        con.execute(f"SET VARIABLE {kind}_files = ?", [files])
        run_sql(con, f"{kind}_samples")


def _has_rows(file: Path, columns: list[str]) -> bool:
    from pyarrow import parquet

    if not file.is_file():
        return False
    about = parquet.read_metadata(file)
    if not about.num_rows:
        return False
    absent = [name for name in columns if name not in about.schema.to_arrow_schema().names]
    if absent:
        raise ValueError(f"{file}: column {absent[0]} is missing; allowed: {', '.join(columns)}")
    return True
