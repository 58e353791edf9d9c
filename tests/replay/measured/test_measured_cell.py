"""One cell on a pool of served replicas: whole folders, true counters, events carried out, and nothing left over."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from replay.cell import Named
from replay.measured import run_measured_cell
from replay.retry import RetryRule
from replay.virtual_cell import run_cell
from replicas.launch import faults
from replicas.launch.failed import EngineFailed
from replicas.launch.pool import Pool, running_pool
from replicas.launch.replica import RemoteSpec
from routers.gateways.process import GatewayFailed
from tests.replay.measured.scene import live_cell, place, served_spec, talks
from workloads.events import Event

ROUTERS = {
    "round_robin": Named("round_robin", "round robin"),
    "consistent_hash": Named("consistent_hash", "consistent hash"),
    "direct": Named("", "direct", gateway="direct"),
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool([served_spec(), served_spec()], tmp_path_factory.mktemp("logs")) as pool:
        yield pool


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "cell.json").read_text())
    return facts


@pytest.fixture(scope="module")
def cells(pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One cell a router, on the same workload."""
    folder = tmp_path_factory.mktemp("cells")
    for name, router in ROUTERS.items():
        run_measured_cell(live_cell(talks(20, 0.15, think_s=0.4), folder, router), place(pool), folder / name)
    return {name: folder / name for name in ROUTERS}


def test_every_request_is_answered_and_has_one_row(cells: dict[str, Path]) -> None:
    for folder in cells.values():
        facts = facts_of(folder)
        assert facts["counts"]["ok"] == facts["counts"]["planned"] == 60
        assert (facts["driver"], facts["void"], facts["conserved"]) == ("wall", "", True)
        rows = pq.read_table(folder / "attempts.parquet").to_pylist()
        assert [row["request_id"] for row in rows] == list(range(60))
        assert {row["replica_id"] for row in rows} == {0, 1}


def test_prefix_hits_by_the_engines_own_counters_rise_with_affinity(cells: dict[str, Path]) -> None:
    def hits(name: str) -> int:
        return sum(one["hit_tokens"] for one in facts_of(cells[name])["prefix"].values())

    assert hits("consistent_hash") > 1.3 * hits("round_robin")
    for name, folder in cells.items():
        table = pq.read_table(folder / "attempts.parquet")
        assert sum(table["cached_tokens"].to_pylist()) == hits(name)


HURRIED = RetryRule("retries", ttft_timeout_s=1.0, max_attempts=6, backoff_s=0.5, backoff_factor=1.0, jitter=0.0)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "attempts.parquet").to_pylist()  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_replica_is_killed_in_a_run_and_comes_back_cold(pool: Pool, tmp_path: Path) -> None:
    events = [Event(2.0, "kill", 1, for_s=1.5)]
    cell = live_cell(
        talks(45, 0.2, turns=1, end_s=12.0, output_tokens=64), tmp_path, ROUTERS["round_robin"], events, client=HURRIED
    )
    was = {part.pid for part in pool.replicas[1].launched.parts()}
    run_measured_cell(cell, place(pool), tmp_path / "cell")
    facts, rows = facts_of(tmp_path / "cell"), rows_of(tmp_path / "cell")
    assert facts["counts"]["ok"] == facts["counts"]["planned"] == 45
    assert facts["void"] == ""
    (event,) = facts["events"]
    assert {key: event[key] for key in ("t_s", "kind", "replica", "for_s")} == {
        "t_s": 2.0, "kind": "kill", "replica": 1, "for_s": 1.5,
    }  # fmt: skip
    kill, restart = facts["carried_out"]
    assert (kill["action"], kill["error"], restart["action"], restart["error"]) == ("kill", "", "restart", "")
    assert 2.0 <= kill["began_s"] < 2.5
    assert 3.5 <= restart["began_s"] < 4.5
    failed = [row for row in rows if row["outcome"] == "error"]
    assert failed, "an answer takes longer than two gaps between requests, so each replica is in the middle of one"
    assert {row["replica_id"] for row in failed} == {1}
    assert all(kill["began_s"] * 1e6 < row["ended_us"] for row in failed), (
        "what failed was under way at the kill, or came after it"
    )
    assert all(row["sent_us"] < (restart["ended_s"] + 0.1) * 1e6 for row in failed)
    back = [row for row in rows if row["replica_id"] == 1 and row["outcome"] == "ok" and row["sent_us"] > 3.5e6]
    assert back, "it serves again"
    assert not was & {part.pid for part in pool.replicas[1].launched.parts()}
    assert facts["scrape"]["missed"]["1"] > 0


@pytest.mark.slow
def test_a_stopped_replica_answers_nothing_and_goes_on_where_it_was(pool: Pool, tmp_path: Path) -> None:
    events = [Event(2.0, "pause", 1, for_s=2.0)]
    cell = live_cell(talks(24, 0.2, turns=2, think_s=0.5), tmp_path, ROUTERS["direct"], events)
    run_measured_cell(cell, place(pool), tmp_path / "cell")
    facts, rows = facts_of(tmp_path / "cell"), rows_of(tmp_path / "cell")
    assert facts["counts"]["ok"] == 48
    assert [one["action"] for one in facts["carried_out"]] == ["pause", "resume"]
    held = [row for row in rows if row["replica_id"] == 1 and 2.05e6 < row["sent_us"] < 3.8e6]
    assert held
    assert all(row["first_token_us"] > 4.0e6 for row in held)
    assert all(row["first_token_us"] - row["sent_us"] < 1.5e6 for row in rows if row["replica_id"] == 0)


def test_an_event_that_no_engine_can_do_is_refused_before_anything_starts(pool: Pool, tmp_path: Path) -> None:
    cell = live_cell(talks(2, 0.2), tmp_path, ROUTERS["direct"], [Event(1.0, "slow", 1, for_s=1.0, factor=3.0)])
    with pytest.raises(ValueError, match=r"events\[0\] \(slow at 1 s\): cannot be done to a real engine; allowed"):
        run_measured_cell(cell, place(pool), tmp_path / "cell")
    assert not list(tmp_path.glob("cell*"))


@pytest.mark.slow
def test_a_routers_own_retries_are_rows_of_their_own(tmp_path: Path) -> None:
    """A replica that refuses beyond two in flight, and a router that tries the other one."""
    with running_pool([served_spec(max_queued=1), served_spec()], tmp_path / "logs") as pool:
        router, guard = Named("random", "random"), Named("retry", "retry", {"max_attempts": 3, "backoff_s": 0.05})
        cell = replace(live_cell(talks(40, 0.02, turns=1), tmp_path, router), guards=(guard,), guard_label="retry")
        run_measured_cell(cell, place(pool), tmp_path / "cell")
    rows, facts = rows_of(tmp_path / "cell"), facts_of(tmp_path / "cell")
    refused = [row for row in rows if row["outcome"] == "refused" and row["router_try"] == 1]
    assert refused
    assert {(row["replica_id"], row["status"], row["client_attempt"]) for row in refused} == {(0, 503, 1)}
    last = {row["request_id"]: row for row in rows}
    assert max(row["router_try"] for row in rows) >= 2
    saved = [row for row in refused if last[row["request_id"]]["outcome"] == "ok"]
    assert saved
    assert all(last[row["request_id"]]["attempt"] > row["attempt"] for row in saved)
    assert facts["attempts"] == len(rows) > 40
    decisions = pq.read_table(tmp_path / "cell" / "decisions.parquet")
    assert decisions.num_rows == len(rows), "a choice a try"


def test_a_pool_that_somebody_else_runs_is_measured_too(pool: Pool, tmp_path: Path) -> None:
    specs = [RemoteSpec(url=replica.url, model="tiny") for replica in pool.replicas]
    with running_pool(specs, tmp_path / "logs") as remote:
        cell = live_cell(talks(6, 0.2, turns=1), tmp_path, ROUTERS["round_robin"])
        run_measured_cell(cell, place(remote, senders=2), tmp_path / "cell")
        facts = facts_of(tmp_path / "cell")
        assert facts["counts"]["ok"] == 6
        assert [one["engine"] for one in facts["engines"]] == ["vllm", "vllm"]
        assert [sender["counts"]["planned"] for sender in facts["senders"]] == [3, 3]
        killed = live_cell(talks(6, 0.2), tmp_path, ROUTERS["round_robin"], [Event(1.0, "kill", 0, for_s=1.0)])
        with pytest.raises(ValueError, match="the pool is remote, its processes cannot be touched"):
            run_measured_cell(killed, place(remote), tmp_path / "other")


@pytest.mark.slow
def test_an_engine_that_dies_by_itself_fails_the_cell_and_is_brought_back_for_the_next(tmp_path: Path) -> None:
    with running_pool([served_spec(), served_spec()], tmp_path / "logs") as pool:
        cell = live_cell(talks(20, 0.2, turns=1), tmp_path, ROUTERS["direct"])
        murder = threading.Timer(4.0, faults.kill, [pool.replicas[1]])
        murder.start()
        with pytest.raises(EngineFailed, match=r"replica 1 \(served at http.*ended with -9 while the cell ran"):
            run_measured_cell(cell, place(pool), tmp_path / "cell")
        murder.join()
        assert not (tmp_path / "cell").exists()
        assert (tmp_path / "cell.failed" / "sender-0.log").is_file()
        run_measured_cell(cell, place(pool), tmp_path / "cell")
        assert facts_of(tmp_path / "cell")["restarted"] == [1]
        assert facts_of(tmp_path / "cell")["counts"]["ok"] == 20
        assert not (tmp_path / "cell.failed").exists()
        assert not list(tmp_path.glob(".cell*"))


def test_a_router_that_does_not_start_is_told_with_its_last_word(pool: Pool, tmp_path: Path) -> None:
    cell = live_cell(talks(2, 0.2), tmp_path, ROUTERS["round_robin"])
    broken = place(pool, router_command=(sys.executable, "-c", "import sys; sys.exit('no such thing')"))
    with pytest.raises(GatewayFailed, match=r"our router ended before it served; router\.log: no such thing"):
        run_measured_cell(cell, broken, tmp_path / "cell")


def test_a_gateway_that_takes_text_only_needs_a_tokenizer(pool: Pool, tmp_path: Path) -> None:
    cell = live_cell(talks(2, 0.2), tmp_path, Named("cache_aware", "s", gateway="sglang_router"))
    with pytest.raises(ValueError, match="sglang_router refuses token ids"):
        run_measured_cell(cell, place(pool), tmp_path / "cell")


def test_prefix_hits_are_those_of_the_simulator(cells: dict[str, Path], tmp_path: Path) -> None:
    """An affine router finds every block that can be found, whichever replica a session is at: so both clocks count the same."""
    cell = live_cell(talks(20, 0.15, think_s=0.4), tmp_path, ROUTERS["consistent_hash"])
    changes = {"context_tokens": 4096, "kv_blocks": 65_536 // 16}
    twin = replace(cell, pool=replace(cell.pool, engine="simulated", live={}, changes=changes))
    run_cell(twin, tmp_path / "twin")
    simulated, live = (
        {row["request_id"]: row["cached_tokens"] for row in rows_of(folder)}
        for folder in (tmp_path / "twin", cells["consistent_hash"])
    )
    firsts = set(range(0, 60, 3))  # what they find of the shared beginning depends on who came first at their replica
    assert {i: n for i, n in live.items() if i not in firsts} == {i: n for i, n in simulated.items() if i not in firsts}
    assert all(abs(live[i] - simulated[i]) <= 64 for i in firsts)


def test_the_direct_arm_takes_turns_as_round_robin_does(cells: dict[str, Path]) -> None:
    """By sends, not by request ids: else a session's turns, whose ids follow each other, would never meet their prefix."""
    rows = sorted(rows_of(cells["direct"]), key=lambda row: row["sent_us"])
    assert [row["replica_id"] for row in rows] == [0, 1] * 30
    hits, other = (sum(row["cached_tokens"] for row in rows_of(cells[name])) for name in ("direct", "round_robin"))
    assert hits == pytest.approx(other, rel=0.2)
