"""`python -m replay`: one cell without Prefect, and nothing of the user's lost."""

import json
from dataclasses import replace
from pathlib import Path

from replay.__main__ import main
from tests.replay.scenes import cell, single_turns
from workloads.storage import write_workload


def cell_file(folder: Path) -> Path:
    workload = write_workload(single_turns([0.0, 0.1]), folder)
    path = folder / "CELL.json"
    path.write_text(replace(cell(), workload=str(workload), workload_hash=workload.stem).to_json())
    return path


def test_a_cell_runs_and_may_run_again_in_its_own_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert main([str(cell_file(tmp_path)), "--out", str(out)]) == 0
    assert json.loads((out / "cell.json").read_text())["counts"]["ok"] == 2


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert main([str(cell_file(tmp_path)), "--out", str(mine)]) == 2
    assert (mine / "thesis.txt").read_text() == "years of work"
    said = capsys.readouterr().err
    assert "exists and is not this cell" in said
    assert said.count("\n") == 1
