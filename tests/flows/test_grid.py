"""The grid: every combination once, the same ids whatever folder it runs in, finished cells found again by their key."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.grid import PlannedWorkload, batches, grid, is_finished, remaining, work_of
from flows.load_study import load_study
from flows.study import Study
from replay.cell import Cell
from replay.code import code_hash


def study() -> Study:
    return load_study("smoke", ["client.1={name: for ever, max_attempts: null, cancel: false}", "seeds=3"])


def planned(folder: str = "a") -> dict[int, PlannedWorkload]:
    plan: dict[str, Any] = {"trace": "t", "max_tokens": 2048}
    return {seed: PlannedWorkload(Path(folder) / f"h{seed}.parquet", f"h{seed}", 100 * seed, plan) for seed in (1, 2, 3)}


def finish(cell: Cell, folder: Path, **other: str) -> None:
    folder.mkdir(parents=True)
    facts = {"cell_id": cell.cell_id, "workload_hash": cell.workload_hash, "code_hash": code_hash()} | other
    (folder / "cell.json").write_text(json.dumps(facts))
    for name in ("attempts", "samples", "decisions"):
        (folder / f"{name}.parquet").write_bytes(b"PAR1 rows PAR1")


def test_every_router_client_and_seed_meets_once_and_arms_share_a_seed_s_workload() -> None:
    cells = grid(study(), planned(), 6.0)
    assert len(cells) == 2 * 2 * 3
    assert len({c.cell_id for c in cells}) == len(cells)
    assert len({c.arm_id for c in cells}) == 4
    assert all(c.workload_hash == f"h{c.seed}" for c in cells)


def test_ids_depend_on_the_study_and_not_on_folders() -> None:
    ids = [c.cell_id for c in grid(study(), planned("a"), 6.0)]
    assert [c.cell_id for c in grid(study(), planned("b"), 6.0)] == ids
    assert set(ids).isdisjoint(c.cell_id for c in grid(study(), planned("a"), 7.0))


def test_a_cell_survives_json() -> None:
    for cell in grid(study(), planned(), 6.0):
        assert Cell.from_json(cell.to_json()) == cell


def test_finished_means_same_id_same_workload_same_code(tmp_path: Path) -> None:
    cell = grid(study(), planned(), 6.0)[0]
    assert not is_finished(cell, tmp_path / "none")
    finish(cell, tmp_path / "good")
    assert is_finished(cell, tmp_path / "good")
    for i, other in enumerate(({"code_hash": "old"}, {"workload_hash": "other"}, {"cell_id": "x"})):
        finish(cell, tmp_path / str(i), **other)
        assert not is_finished(cell, tmp_path / str(i))
    (tmp_path / "good" / "cell.json").write_text('{"cell_id": "')
    assert not is_finished(cell, tmp_path / "good")


def test_a_cell_with_a_lost_or_cut_file_runs_again(tmp_path: Path) -> None:
    cell = grid(study(), planned(), 6.0)[0]
    for i, name in enumerate(("attempts", "samples", "decisions")):
        finish(cell, tmp_path / str(i))
        (tmp_path / str(i) / f"{name}.parquet").write_bytes(b"PAR1 ro")
        assert not is_finished(cell, tmp_path / str(i))
        (tmp_path / str(i) / f"{name}.parquet").unlink()
        assert not is_finished(cell, tmp_path / str(i))


def test_what_is_not_finished_runs_again_and_leftovers_go(tmp_path: Path) -> None:
    cells = grid(study(), planned(), 6.0)
    finish(cells[0], tmp_path / cells[0].cell_id)
    finish(cells[1], tmp_path / cells[1].cell_id, code_hash="old")
    finish(cells[2], tmp_path / f".{cells[2].cell_id}.4711")
    finish(replace(cells[3], load_rps=99.0), tmp_path / "stale-s1")
    assert remaining(cells, tmp_path) == cells[1:]
    assert [p.name for p in tmp_path.iterdir()] == [cells[0].cell_id]


def test_batches_hold_every_cell_once_largest_work_first() -> None:
    cells = grid(study(), planned(), 6.0)
    requests = {f"h{seed}": 100 * seed for seed in (1, 2, 3)}
    made = batches(cells, requests, processes=2)
    flat = [c for batch in made for c in batch]
    assert sorted(c.cell_id for c in flat) == sorted(c.cell_id for c in cells)
    work = [work_of(c, requests[c.workload_hash]) for c in flat]
    assert work == sorted(work, reverse=True)
    assert len(made[0]) == 1
    assert len(made) > 2
    assert batches([], requests, 2) == []
