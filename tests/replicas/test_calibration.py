"""Calibrating an engine over HTTP gives back the coefficients it has; a busy, foreign or broken one is refused in one line."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from flows.calibrate import _prompts
from flows.cli import main as stampede
from replicas.calibration.calibrate import Wanted, calibrate
from replicas.calibration.client import CannotMeasure, EngineClient, Timed
from replicas.calibration.engine_facts import EngineFacts, ask, must_be_idle
from replicas.calibration.sweeps import Plan, fastest
from replicas.profile import EngineProfile
from replicas.served import ServedReplica, Serving
from tests.virtual_loop import run_virtual

PLAN = Plan(
    prefill=(64, 256, 512, 1024, 2048, 4096, 8192),
    prefix=(2048,),
    repeats=6,
    decode_batches=(1, 8, 24),
    decode_contexts=(256, 1024),
    poisson=((0.45, 40.0, 512, 128), (0.6, 20.0, 512, 128)),
)
T = TypeVar("T")
WANTED = Wanted("mine", "none", "2026-11-24")


def engine() -> EngineProfile:
    """The shipped one; what a sweep cannot see is off, and so is what varies: of lone requests, the fastest are kept."""
    shipped = EngineProfile.load("h100-vllm-llama8b")
    return replace(shipped, step=replace(shipped.step, prefill_sequence_s=0.0, launch_spread=0.0))


def served(what: Callable[[EngineClient, ServedReplica], Awaitable[T]], **serving: Any) -> T:
    """Run `what` against a served replica in the same event loop, over loopback sockets in virtual time."""

    async def run() -> T:
        async with ServedReplica(engine(), asyncio.get_running_loop().time(), Serving(**serving)) as replica:
            return await what(EngineClient(replica.url, timeout_s=30.0), replica)

    return run_virtual(run())


@pytest.mark.slow
def test_a_simulated_engine_gets_its_own_coefficients_back() -> None:
    said: list[str] = []

    async def measure(client: EngineClient, _: ServedReplica) -> EngineProfile:
        return await calibrate(client, WANTED, PLAN, _prompts(1000), 0, said.append)

    found, true = served(measure), engine()
    for name, limit in {"base_s": 0.02, "prefill_s": 0.05, "kv_s": 0.05, "prefill_floor_s": 0.05, "eager_launch_s": 0.05}.items():
        assert getattr(found.step, name) == pytest.approx(getattr(true.step, name), rel=limit), name
    assert (found.block_tokens, found.kv_blocks, found.context_tokens) == (true.block_tokens, true.kv_blocks, true.context_tokens)
    assert (found.engine, found.engine_version, found.scheduler) == ("vllm", true.engine_version, "vllm")
    *_, held_out = found.fit_error["runs"].values()
    assert not held_out["used_in_fit"]
    assert abs(held_out["quantiles"]["tpot_p50"]["error"]) < 0.1
    assert said[-1].startswith("poisson: ")


def test_a_request_is_timed_token_by_token() -> None:
    async def ask_both(client: EngineClient, replica: ServedReplica) -> list[Timed]:
        client.model = replica.model
        return [await client.complete("x", list(range(100, 164)), tokens) for tokens in (10, 1)]

    first, again = served(ask_both)
    assert first.tokens[-1] == 10
    assert first.times_s == sorted(first.times_s)
    assert first.first_s - first.sent_s > engine().step.prefill_floor_s
    assert (first.cached_tokens, again.cached_tokens) == (0, 48)  # the last block is always computed


def test_a_busy_engine_is_refused() -> None:
    async def measure(client: EngineClient, replica: ServedReplica) -> EngineProfile:
        client.model = replica.model
        other = asyncio.ensure_future(client.complete("other", list(range(64)), 200))
        await asyncio.sleep(0.3)
        try:
            return await calibrate(client, WANTED, PLAN, _prompts(1000), 0, print)
        finally:
            other.cancel()

    with pytest.raises(CannotMeasure, match="1 requests run and 0 wait there; nothing else may use the engine"):
        served(measure)


class Sglang:
    """SGLang 0.5.15 after a burst: its gauges were last written while requests ran."""

    url = "http://sglang"

    def __init__(self, running: int) -> None:
        self.running = running

    async def get_json(self, path: str) -> dict[str, Any] | None:
        load = {"dp_rank": 0, "num_running_reqs": self.running, "num_waiting_reqs": 0}
        return {"loads": [load]} if path == "/v1/loads" else None

    async def gauges(self) -> dict[str, float]:
        return {"sglang:num_running_reqs": 2.0, "sglang:num_queue_reqs": 0.0}


def test_an_idle_sglang_is_not_taken_for_busy_by_its_stale_gauges() -> None:
    asyncio.run(must_be_idle(Sglang(0), "sglang"))  # type: ignore[arg-type]
    with pytest.raises(CannotMeasure, match="1 requests run"):
        asyncio.run(must_be_idle(Sglang(1), "sglang"))  # type: ignore[arg-type]


def test_what_the_engine_says_of_itself() -> None:
    async def facts(client: EngineClient, _: ServedReplica) -> EngineFacts:
        return await ask(client, None)

    vllm, sglang = served(facts), served(facts, flavour="sglang")
    true = engine()
    kv_tokens = true.kv_blocks * true.block_tokens
    assert (vllm.engine, vllm.context_tokens, vllm.block_tokens, vllm.kv_tokens) == ("vllm", 131_072, 16, kv_tokens)
    assert (sglang.engine, sglang.kv_tokens, sglang.max_running) == ("sglang", kv_tokens, true.max_running)


def test_an_engine_that_is_not_the_named_one_is_refused() -> None:
    async def facts(client: EngineClient, _: ServedReplica) -> EngineFacts:
        return await ask(client, "sglang")

    with pytest.raises(CannotMeasure, match=r"/metrics: no .*sglang:num_running_reqs"):
        served(facts)


def test_only_the_fastest_third_of_each_configuration_counts() -> None:
    rows = [Timed(tag, 1, 1, 0.0, times_s=[ttft], tokens=[1]) for tag in ("a", "b") for ttft in (5.0, 1.0, 3.0, 2.0)]
    assert [(row.tag, row.first_s) for row in fastest(rows)] == [("a", 1.0), ("a", 2.0), ("b", 1.0), ("b", 2.0)]


def test_the_plan_keeps_within_the_engine() -> None:
    plan = Plan().within(context_tokens=2000, kv_tokens=20_000, max_running=64)
    assert plan.prefill == (16, 128, 256, 512, 1024)
    assert plan.prefix == (1024,)
    assert plan.decode_contexts == (512,)
    assert max(plan.decode_batches) == 16  # 32 x (512 + 128) tokens would not fit into 90% of 20,000
    with pytest.raises(CannotMeasure, match="a context of 100 tokens"):
        Plan().within(100, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "ftp://here", "--out", "x.json"], "--url 'ftp://here': must be http://HOST:PORT"),
        (["--url", "http://127.0.0.1:9", "--out", "x.json"], "GET http://127.0.0.1:9/v1/models: "),
        (["--url", "http://127.0.0.1:9", "--out", "x.yaml"], "--out 'x.yaml': must be a .json file"),
    ],
)
def test_bad_usage_is_one_line_code_2_and_no_file(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        stampede(["calibrate", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
