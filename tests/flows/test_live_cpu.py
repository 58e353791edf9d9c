"""Real engines on the CPU through the whole flow: affinity raises prefix hits, and the simulator counts what they count."""

import json
import os
from pathlib import Path

import pytest

from tests.flows.commands import stampede

VARIABLES = {"vllm": "STAMPEDE_VLLM_PYTHON", "sglang": "STAMPEDE_SGLANG_PYTHON"}
KEYS = "replicas: 2, model: tiny, context_tokens: 2048, kv_tokens: 8192, max_running: 16"


def hit_shares(run: Path) -> dict[tuple[str, str], float]:
    """Prefix hit tokens over prompt tokens of a cell, by (router, driver): the engines' own counters, or the simulator's rows."""
    import polars as pl

    found: dict[tuple[str, str], float] = {}
    for path in run.glob("cells/*/cell.json"):
        cell = json.loads(path.read_text())
        rows = pl.read_parquet(path.parent / "attempts.parquet").filter(pl.col("outcome") == "ok")
        cached, prompt = (float(sum(rows[name].to_list())) for name in ("cached_tokens", "prompt_tokens"))
        if cell["driver"] == "wall":
            counted = sum(one["hit_tokens"] for one in cell["prefix"].values())
            assert counted == pytest.approx(cached, rel=0.02)
        found[cell["router"], cell["driver"]] = cached / prompt
    return found


@pytest.mark.engine
@pytest.mark.slow
@pytest.mark.parametrize("engine", VARIABLES)
def test_prefix_hits_rise_under_affinity_and_match_the_simulator(engine: str, tmp_path: Path) -> None:
    if VARIABLES[engine] not in os.environ:
        pytest.skip(f"{VARIABLES[engine]} is not set")
    pool = f"pool={{live: {{engine: {engine}, {KEYS}}}, profile: cpu-{engine}-tiny}}"
    sets = (pool, "routers=[round_robin, session_affinity]", "phases={warmup_s: 2, steady_s: 15, recovery_s: 2, drain_s: 8}")
    arguments = [part for change in sets for part in ("--set", change)]
    run = tmp_path / "run"
    done = stampede("run", "live-cpu", *arguments, "--out", str(run), cache=tmp_path / "cache", timeout_s=900)
    assert done.stdout.splitlines()[-1:] == [str(run / "report.html")], done.stderr
    shares = hit_shares(run)
    assert len(shares) == 4
    assert shares["session_affinity", "wall"] > shares["round_robin", "wall"] + 0.05
    for router in ("round_robin", "session_affinity"):
        assert shares[router, "wall"] == pytest.approx(shares[router, "virtual"], abs=0.08)
