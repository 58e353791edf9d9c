"""The sender against a real vLLM and a real SGLang on the CPU: their streams are read, their counts arrive, nothing is lost.

`STAMPEDE_VLLM_PYTHON` and `STAMPEDE_SGLANG_PYTHON` name the environments; the tests of an engine that is not named are skipped.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replay.retry import RetryRule
from replicas.launch.environment import VARIABLES
from replicas.launch.pool import running_pool
from replicas.launch.replica import Replica
from replicas.launch.reset import reset
from replicas.launch.spec import EngineSpec
from replicas.launch.tiny_model import write_tiny_model
from tests.replay.scenes import conversation, single_turns
from tests.replay.send.scripted import played, send_cell

pytestmark = pytest.mark.engine

BLOCK_TOKENS = {"vllm": 32, "sglang": 1}
TINY: dict[str, Any] = {"model": "model", "vocabulary_size": 2000}
PATIENT = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)


@pytest.fixture(scope="module", params=["vllm", "sglang"])
def replica(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    named, folder = os.environ.get(VARIABLES[request.param]), tmp_path_factory.mktemp(request.param)
    if not named:
        pytest.skip(f"{VARIABLES[request.param]} is not set: no such engine here")
    model = write_tiny_model(folder / "model", {"vllm": "llama", "sglang": "qwen2"}[request.param])
    limits = {"context_tokens": 2048, "max_running": 4, "max_batched_tokens": 512, "max_queued": 8, "kv_tokens": 8192}
    spec = EngineSpec(engine=request.param, python=Path(named), model=model, weights="dummy", **limits)  # type: ignore[arg-type]
    with running_pool([spec], folder / "logs") as pool:
        yield pool.replicas[0]


@pytest.mark.parametrize("length", ["ignore_eos", "min_tokens"])
def test_a_conversations_turns_are_found_in_the_cache(replica: Replica, length: str) -> None:
    reset(replica)
    rows, sender = played(
        conversation(3, think_s=0.2), replica.url, send_cell(PATIENT, drain_s=60.0), model="model",
        vocabulary_size=2000, length=length,
    )  # fmt: skip
    assert [(r.outcome, r.error, r.output_tokens) for r in rows] == [("ok", "", 40)] * 3
    assert (sender.facts["unknown_replies"], sender.facts["other_prompt_length"]) == (0, 0)
    for before, after in zip(rows, rows[1:], strict=False):  # noqa: RUF007
        whole = before.prompt_tokens + before.output_tokens
        assert whole - 2 * BLOCK_TOKENS[replica.engine] <= after.cached_tokens <= whole, "the engine's own reply is found again"
        assert after.prefilled_tokens == after.prompt_tokens - after.cached_tokens


def test_refusals_in_the_stream_are_refusals(replica: Replica) -> None:
    workload = single_turns([0.001 * i for i in range(40)], output_tokens=60)
    rows, sender = played(workload, replica.url, send_cell(PATIENT, drain_s=120.0), **TINY)
    outcomes = {(r.outcome, r.status) for r in rows}
    assert outcomes == {("ok", 200), ("refused", 503)}
    assert sender.client.counts["ok"] + sender.client.counts["failed"] == 40
    assert all(r.error.startswith(("error event", "HTTP 503")) for r in rows if r.outcome == "refused")


def test_impatience_hangs_up_and_the_engine_goes_on_serving(replica: Replica) -> None:
    rule = RetryRule("r", ttft_timeout_s=None, total_timeout_s=0.5, max_attempts=1)
    rows, _ = played(single_turns([0.0], output_tokens=1500), replica.url, send_cell(rule), **TINY)
    assert [(r.outcome, r.error) for r in rows] == [("timeout", "client gave up: no whole answer in time")]
    rows, _ = played(single_turns([0.0]), replica.url, send_cell(PATIENT), **TINY)
    assert [r.outcome for r in rows] == ["ok"]


def test_what_the_engine_rejects_has_its_status(replica: Replica) -> None:
    rows, _ = played(single_turns([0.0], prompt_tokens=5000), replica.url, send_cell(PATIENT), **TINY)
    assert [(r.outcome, r.status) for r in rows] == [("error", 400)]
    assert rows[0].error.startswith("HTTP 400: ")
