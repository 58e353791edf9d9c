"""What the prefix rules are for: more of the prompts is found in the engines' caches than where requests go at random."""

from typing import Any

import pytest

from replay.recorder import Recorder
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from tests.replay.scenes import cell
from workloads.synthesis import Plan, synthesize
from workloads.trace import load_trace
from workloads.workload import Workload


@pytest.fixture(scope="module")
def workload() -> Workload:
    """Multi-turn sessions with shared system prompts, far below what four replicas can serve."""
    return synthesize(load_trace("synthetic"), Plan(warmup_s=10, steady_s=40, recovery_s=10), 6.0, 1)


def hit_share(workload: Workload, router: str, **parameters: Any) -> float:
    run = VirtualRun(cell(router, replicas=4, **parameters), workload, EngineProfile.load("h100-vllm-llama8b"), Recorder())
    run.run()
    hits = sum(engine.counters.prefix_hit_tokens for engine in run.engines)
    return hits / sum(engine.counters.prefix_query_tokens for engine in run.engines)


@pytest.fixture(scope="module")
def at_random(workload: Workload) -> float:
    return hit_share(workload, "random")


@pytest.mark.parametrize(
    ("router", "parameters"),
    [
        ("cache_aware", {}),
        ("prefix_hash", {}),
        ("aibrix_prefix", {}),
        ("epp_weighted", {}),
        ("kv_cost", {"index": "approximate"}),
        ("lmetric", {}),
        ("preble", {}),
    ],
)
def test_it_finds_more_in_the_caches_than_chance(
    workload: Workload, at_random: float, router: str, parameters: dict[str, Any]
) -> None:
    assert hit_share(workload, router, **parameters) > at_random + 0.04
