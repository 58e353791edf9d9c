"""Cells on two real vLLM replicas, and on two real SGLang replicas, on the CPU: hurt, filled, refused, and nothing is lost.

`STAMPEDE_VLLM_PYTHON` and `STAMPEDE_SGLANG_PYTHON` name the environments; the tests of an engine that is not named are skipped.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from replay.cell import Named
from replay.measured import Place, run_measured_cell
from replay.retry import RetryRule
from replicas.launch.environment import VARIABLES
from replicas.launch.pool import Pool, running_pool
from replicas.launch.spec import EngineSpec
from replicas.launch.tiny_model import write_tiny_model
from tests.replay.measured.scene import ROUTER, live_cell, talks
from tests.replay.scenes import single_turns
from workloads.events import Event
from workloads.workload import Workload

pytestmark = pytest.mark.engine

SHAPES = {"vllm": "llama", "sglang": "qwen2"}
KV_TOKENS, MAX_RUNNING, MAX_QUEUED = 4096, 8, 12
# So low that SGLang admits more than fits, and must retract.
OPTIONS = {"vllm": (), "sglang": ("--schedule-conservativeness", "0.1")}
DIRECT, OURS = Named("round_robin", "direct", gateway="direct"), Named("consistent_hash", "consistent hash")
HURRIED = RetryRule("retries", ttft_timeout_s=20.0, max_attempts=6, backoff_s=1.0, backoff_factor=1.0, jitter=0.0)


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def pool(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    named, folder = os.environ.get(VARIABLES[request.param]), tmp_path_factory.mktemp(request.param)
    if not named:
        pytest.skip(f"{VARIABLES[request.param]} is not set: no such engine here")
    spec = EngineSpec(
        engine=request.param,
        python=Path(named),
        model=write_tiny_model(folder / "model", SHAPES[request.param]),
        weights="dummy",
        context_tokens=2048,
        max_running=MAX_RUNNING,
        max_batched_tokens=512,
        max_queued=MAX_QUEUED,
        kv_tokens=KV_TOKENS,
        arguments=OPTIONS[request.param],
    )
    with running_pool([spec, spec], folder / "logs") as pool:
        pool.warm_up()
        yield pool


def measured(
    pool: Pool, workload: Workload, folder: Path, router: Named, events: Sequence[Event] = (), **changes: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows and the facts of one cell; it is conserved, or this raises."""
    changes = {"drain_s": 60.0, **changes}
    cell = live_cell(workload, folder, router, events, **changes)
    length = "min_tokens" if pool.replicas[0].engine == "sglang" else "ignore_eos"
    place = Place(pool, "model", ROUTER, vocabulary_size=2000, length=length, lag_limit_s=0.5)
    run_measured_cell(cell, place, folder / "cell")
    facts: dict[str, Any] = json.loads((folder / "cell/cell.json").read_text())
    counts = facts["counts"]
    assert counts["scheduled"] == counts["ok"] + counts["failed"] + counts["abandoned"] + counts["censored"]
    return pq.read_table(folder / "cell/attempts.parquet").to_pylist(), facts


def outcomes(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter(row["outcome"] for row in rows)


def test_talks_find_their_prefixes_and_the_counters_agree(pool: Pool, tmp_path: Path) -> None:
    rows, facts = measured(pool, talks(8, 0.8, turns=3, end_s=30.0), tmp_path, OURS)
    assert outcomes(rows) == {"ok": 24}
    assert facts["void"] == ""
    assert all(one["cached_first"] == one["cached_after"] == 0 < one["cached_again"] for one in facts["flushed"])
    hits = sum(one["hit_tokens"] for one in facts["prefix"].values())
    assert sum(row["cached_tokens"] for row in rows) == hits > 0
    assert {one["version"] for one in facts["engines"]} - {None}


def test_a_killed_replica_breaks_its_streams_and_comes_back(pool: Pool, tmp_path: Path) -> None:
    """It comes back after the run has ended, or in it: the cell waits."""
    workload = single_turns([0.4 * i for i in range(24)], output_tokens=200)
    rows, facts = measured(
        pool, workload, tmp_path, Named("round_robin", "round robin"), [Event(3.0, "kill", 1, for_s=2.0)], client=HURRIED
    )
    assert facts["void"] == ""
    kill, restart = facts["carried_out"]
    assert (kill["error"], restart["error"]) == ("", "")
    assert 3.0 <= kill["began_s"] < 3.5
    failed = [row for row in rows if row["outcome"] != "ok"]
    broken = [row for row in failed if row["outcome"] == "error"]
    assert broken, "what was on its way there is lost"
    assert {row["replica_id"] for row in broken} == {1}
    assert {row["outcome"] for row in failed} <= {"error", "timeout", "refused"}, "refused: by the full queue of the other one"
    assert facts["counts"]["ok"] == 24, "retries go to the other one"
    assert pool.replicas[1].api.get("/health")[0] == 200


def test_a_stopped_replica_holds_its_streams_and_goes_on(pool: Pool, tmp_path: Path) -> None:
    workload = single_turns([0.25 * i for i in range(32)], output_tokens=20)
    rows, facts = measured(pool, workload, tmp_path, DIRECT, [Event(2.0, "pause", 1, for_s=3.0)])
    assert facts["void"] == ""
    assert outcomes(rows) == {"ok": 32}
    held = [row for row in rows if row["replica_id"] == 1 and 2.2e6 < row["sent_us"] < 4.8e6]
    assert held
    assert all(row["first_token_us"] > 5.0e6 for row in held)
    assert all(row["max_gap_us"] < 2.5e6 for row in rows if row["replica_id"] == 0)


def test_a_full_kv_cache_preempts_and_loses_nothing(pool: Pool, tmp_path: Path) -> None:
    """Eight at once on a replica, each up to 900 tokens, in a pool of 4,096."""
    workload = single_turns([0.05 * i for i in range(16)], prompt_tokens=300, output_tokens=600)
    rows, _ = measured(pool, workload, tmp_path, DIRECT, drain_s=150.0)
    assert outcomes(rows) == {"ok": 16}
    samples = pq.read_table(tmp_path / "cell/samples.parquet").to_pylist()
    assert max(sample["preemptions"] for sample in samples) >= 1
    assert max(sample["kv_used"] for sample in samples) > 0.9
    assert {row["output_tokens"] for row in rows} == {600}


def test_what_is_beyond_the_queues_limit_is_refused(pool: Pool, tmp_path: Path) -> None:
    """vLLM's --max-num-queued-reqs counts all in flight, SGLang's --max-queued-requests what waits."""
    workload = single_turns([0.002 * i for i in range(80)], output_tokens=60)
    rows, facts = measured(pool, workload, tmp_path, DIRECT)
    assert {(row["outcome"], row["status"]) for row in rows} == {("ok", 200), ("refused", 503)}
    assert facts["counts"]["ok"] + facts["counts"]["failed"] == 80
    assert outcomes(rows)["ok"] >= 2 * MAX_QUEUED


def test_a_flush_in_a_run_is_done_or_the_run_is_void(pool: Pool, tmp_path: Path) -> None:
    """vLLM forgets what its running requests hold too, and they compute it again; SGLang only when it is idle."""
    workload = single_turns([0.2 * i for i in range(30)], output_tokens=80)
    rows, facts = measured(pool, workload, tmp_path, DIRECT, [Event(3.0, "flush", 0)])
    (event,), (done,) = facts["events"], facts["carried_out"]
    assert facts["counts"]["ok"] == 30, "nothing is lost by it"
    assert {row["output_tokens"] for row in rows} == {80}
    if pool.replicas[0].engine == "vllm":
        assert (facts["void"], done["error"], "skipped" in event) == ("", "", False)
    else:
        assert bool(facts["void"]) == bool(done["error"]) == ("skipped" in event)
