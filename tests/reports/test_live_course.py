"""A run's course from rows in memory is the course that the tables tell."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from reports.course import COLUMNS
from reports.live_course import course_of


@pytest.mark.parametrize("fixture", ["page_run", "events_run"])
def test_every_second_of_every_cell_is_what_the_tables_say(fixture: str, request: pytest.FixtureRequest) -> None:
    run: Path = request.getfixturevalue(fixture)
    with duckdb.connect(str(run / "results.duckdb"), read_only=True) as con:
        columns = ", ".join(COLUMNS)
        for folder in sorted((run / "cells").iterdir()):
            facts = json.loads((folder / "cell.json").read_text())
            until_s = facts["phases"][-1]["end_s"] + facts["drain_s"]
            rows = [pq.read_table(folder / f"{name}.parquet") for name in ("attempts", "samples")]
            found = course_of(rows[0], rows[1], _slo(run), until_s)
            told = con.execute(f"SELECT {columns} FROM seconds WHERE cell_id = ? ORDER BY t_s", [facts["cell_id"]]).fetchnumpy()
            for name in COLUMNS:
                table = np.ma.filled(np.ma.asarray(told[name]).astype(np.float64), np.nan)
                np.testing.assert_allclose(getattr(found, name), table, rtol=1e-9, err_msg=f"{folder.name} {name}")


def _slo(run: Path) -> dict[str, float | None]:
    import yaml

    slo: dict[str, float | None] = yaml.safe_load((run / "study.yaml").read_text())["slo"]
    return slo
