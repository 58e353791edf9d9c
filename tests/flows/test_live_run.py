"""A live pool through its cells, with a pool and a measurement that are made up: order, failure, senders."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import live_run
from flows.live_pool import LivePool
from flows.live_run import run_pool, sending
from flows.load_study import load_study
from flows.progress import RunProgress
from flows.replay_processes import CellFailed
from flows.run_folder import RunFolder
from replay.cell import Cell
from replay.measured import Place
from replicas.launch.failed import EngineFailed
from replicas.launch.pool import Pool
from tests.replay.scenes import cell


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The log folders of pools that are over."""
    over: list[Path] = []

    @contextmanager
    def made_up(pool: LivePool, logs: Path) -> Iterator[Pool]:
        logs.mkdir(parents=True)
        try:
            yield Pool(())
        finally:
            over.append(logs)

    monkeypatch.setattr(live_run, "_running", made_up)
    return over


def live_pool(tokenizer: str = "") -> LivePool:
    return LivePool("2 × vLLM!", replace(cell().pool, live={"groups": []}), (), "model", tokenizer, 4096, "ignore_eos")


def run(tmp_path: Path, cells: list[Cell], measure: Any) -> None:
    plan = sending(load_study("live-served"), 10.0, 15.0)
    run_pool(live_pool(), cells, plan, RunFolder(tmp_path), RunProgress(quiet=True), measure, lambda engines: None)


def test_cells_run_one_by_one_in_the_order_given_and_the_pool_ends(tmp_path: Path, ended: list[Path]) -> None:
    cells = [replace(cell(), seed=seed) for seed in (3, 1, 2)]
    seen: list[tuple[int, Path]] = []

    def measure(cell: Cell, place: Place, folder: Path) -> None:
        assert (place.vocabulary_size, place.senders, place.prompt, ended) == (4096, 1, "ids", [])
        seen.append((cell.seed, folder))

    run(tmp_path, cells, measure)
    assert seen == [(c.seed, tmp_path / "cells" / c.cell_id) for c in cells]
    assert ended == [tmp_path / "engines" / "2-vllm"]
    run(tmp_path, cells, lambda *_: None)
    assert ended[1] == tmp_path / "engines" / "2-vllm.1"  # a resumed run keeps the logs of the one that broke


def test_a_cell_that_fails_ends_the_pool_in_one_line_with_cell_and_logs_and_is_not_tried_again(
    tmp_path: Path, ended: list[Path]
) -> None:
    cells = [replace(cell(), seed=seed) for seed in (1, 2, 3)]
    tried: list[int] = []

    def measure(cell: Cell, place: Place, folder: Path) -> None:
        tried.append(cell.seed)
        if cell.seed == 2:
            error = EngineFailed("replica 0 ended with -9; its log x ends:\nline\nline")
            error.add_note(f"logs: {folder}.failed")
            raise error

    with pytest.raises(CellFailed) as caught:
        run(tmp_path, cells, measure)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"cell {cells[1].cell_id} (")
    assert "replica 0 ended with -9" in said
    assert f"logs: {tmp_path / 'cells' / cells[1].cell_id}.failed" in said
    assert said.endswith(f"engines' logs: {tmp_path / 'engines' / '2-vllm'}")
    assert tried == [1, 2]
    assert len(ended) == 1


def test_text_needs_a_tokenizer(tmp_path: Path, ended: list[Path]) -> None:
    plan = replace(sending(load_study("live-served"), 10.0, 15.0), prompt="text")
    with pytest.raises(ValueError, match="takes text only"):
        run_pool(live_pool(), [cell()], plan, RunFolder(tmp_path), RunProgress(quiet=True), lambda *_: None, lambda _: None)
    assert len(ended) == 1


@pytest.mark.parametrize(
    ("changes", "load_rps", "mean_tokens", "senders"),
    [
        ([], 10.0, 15.0, 1),
        ([], 500.0, 15.0, 2),  # the trigger doubles it: 1,000 a second
        ([], 300.0, 33.0, 2),  # 600 requests of 33 tokens: 19,800 chunks a second
        (["trigger={kind: placebo, d_s: 1}"], 500.0, 15.0, 1),
        (["senders=3"], 10.0, 15.0, 3),
    ],
)
def test_senders_are_enough_for_the_highest_load(
    changes: list[str], load_rps: float, mean_tokens: float, senders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert sending(load_study("live-served", changes), load_rps, mean_tokens).senders == senders


def test_one_gateway_that_takes_no_token_ids_makes_all_arms_send_text() -> None:
    one = sending(load_study("live-served", ["routers.0={name: random, gateway: sglang_router}"]), 10.0, 15.0)
    other = sending(load_study("live-served", ["routers.0={name: random, gateway: vllm_router}"]), 10.0, 15.0)
    assert (one.prompt, other.prompt) == ("text", "ids")


def test_a_self_test_that_missed_says_what() -> None:
    result = {"send_error_p99_s": 0.004, "ttft_error_p99_s": 0.0005, "rps": 20.0, "passed": False, "requests": 100, "ok": 100}
    said = live_run.words_of_test({**result, "misses": ["send_p99_s"]})
    assert said == "missed its limits (send_p99_s): send p99 4.00 ms, first token p99 0.50 ms off, at 20 requests/s"
    assert "2 answers were not well" in live_run.words_of_test({**result, "misses": [], "ok": 98})
    assert live_run.words_of_test({**result, "misses": [], "passed": True}).startswith("send p99 4.00 ms")
