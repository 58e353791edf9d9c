"""The grid: every combination once, the same ids whatever folder it runs in, finished cells found again by their key."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.grid import PlannedWorkload, batches, finished_names, grid, is_finished, live_cells, remaining, twin_cells, work_of
from flows.load_study import load_study
from flows.study import Study
from replay.cell import Cell, PoolSpec
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


def test_finished_cells_of_other_code_are_known_before_they_are_removed(tmp_path: Path) -> None:
    """A measured cell costs minutes: a resumed run says how many it has to run again."""
    new, old = grid(study(), planned(), 6.0)[:2]
    finish(new, tmp_path / new.cell_id)
    finish(old, tmp_path / old.cell_id, code_hash="old")
    (tmp_path / "broken.failed").mkdir()
    there = finished_names(tmp_path)
    assert there == {new.cell_id, old.cell_id}
    remaining([new, old], tmp_path)
    assert there - finished_names(tmp_path) == {old.cell_id}


LIVE = PoolSpec("2 × served", 2, "h100-vllm-llama8b", "hash", engine="served", live={"groups": []})


def test_a_live_pool_runs_each_arm_in_every_block_and_no_arm_always_first() -> None:
    live = load_study("live-served", ["seeds=2"])
    cells = live_cells(live, LIVE, planned(), 10.0)
    blocks = [cells[i : i + 3] for i in range(0, 12, 3)]
    assert [{(c.repeat, c.seed) for c in block} for block in blocks] == [{(0, 1)}, {(0, 2)}, {(1, 1)}, {(1, 2)}]
    for block in blocks:
        assert sorted(c.router.label for c in block) == ["direct", "round_robin", "session_affinity"]
    assert len({block[0].router.label for block in blocks}) > 1
    assert len({c.cell_id for c in cells}) == 12
    assert len({c.arm_id for c in cells}) == 3  # a repeat and a seed are of the same arm
    assert all(c.pool == LIVE for c in cells)
    for cell in cells:
        assert Cell.from_json(cell.to_json()) == cell


def test_a_twin_is_the_same_cell_in_virtual_time_once_a_seed_and_only_where_the_simulator_can() -> None:
    gateway = "{name: random, gateway: nginx}"
    live = load_study("live-served", ["seeds=2", f"routers.3={gateway}", "pool.changes={max_queued: 9}"])
    twins = twin_cells(live, live.pools[0], planned(), 10.0)
    assert grid(live, planned(), 10.0) == twins
    assert [(c.router.label, c.router.name, c.router.gateway, c.seed) for c in twins] == [
        ("round_robin", "round_robin", "", 1),
        ("round_robin", "round_robin", "", 2),
        ("session_affinity", "session_affinity", "", 1),
        ("session_affinity", "session_affinity", "", 2),
        ("direct", "round_robin", "", 1),  # senders take turns
        ("direct", "round_robin", "", 2),
    ]
    measured = {(c.router.label, c.seed): c for c in live_cells(live, LIVE, planned(), 10.0)}
    for twin in twins:
        same = measured[twin.router.label, twin.seed]
        assert twin.workload_hash == same.workload_hash
        assert (twin.pool.engine, twin.pool.live, twin.pool.label) == ("simulated", {}, f"{same.pool.label}, simulated")
        assert twin.pool.changes == {"context_tokens": 2048, "kv_blocks": 512, "max_queued": 9}
    assert twin_cells(live, load_study("live-served", ["pool.twin=false"]).pools[0], planned(), 10.0) == []


def test_several_simulated_pools_each_run_the_whole_grid() -> None:
    two = load_study("smoke", ["pool=[{replicas: 2}, {replicas: 3}]"])
    cells = grid(two, planned(), 6.0)
    assert [c.pool.replicas for c in cells] == [2] * 4 + [3] * 4
    assert len({c.cell_id for c in cells}) == 8
