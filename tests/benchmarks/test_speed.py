"""Speed, as CPU time on one core: `pytest tests/benchmarks -m benchmark -s` prints the figures (LOG.md keeps them)."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from tests.replay.scenes import cell
from workloads.storage import read_workload, workload_hash, write_workload
from workloads.synthesis import Plan, synthesize
from workloads.trace import load_trace
from workloads.workload import Workload

pytestmark = pytest.mark.benchmark


def cpu_s(work: Callable[[], object], repeats: int = 3) -> float:
    """The least CPU time of some repeats: the machine may be busy, the work is the same."""
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return min(spent)


@pytest.fixture(scope="module")
def workload() -> Workload:
    plan = Plan(warmup_s=30, steady_s=60, recovery_s=150, trigger={"kind": "spike", "k": 3.0, "d_s": 20.0})
    return synthesize(load_trace("synthetic"), plan, 16.0, 1)


def test_synthesis() -> None:
    """A million requests of multi-turn sessions with a spike, made, hashed and written."""
    trace = load_trace("synthetic")
    plan = Plan(warmup_s=1000, steady_s=4000, recovery_s=1000)
    made: list[Workload] = []
    spent = cpu_s(lambda: made.append(synthesize(trace, plan, 165.0, 1)), repeats=2)
    hashed = cpu_s(lambda: workload_hash(made[0]), repeats=2)
    print(f"\nsynthesize {len(made[0].table):,} requests: {spent:.2f} s CPU, hash {hashed:.2f} s CPU")
    assert len(made[0].table) > 1_000_000
    assert spent + hashed < 10


def test_workload_file(workload: Workload, tmp_path: Path) -> None:
    path = write_workload(workload, tmp_path)
    spent = cpu_s(lambda: read_workload(path)) * 10_000 / len(workload.requests)
    print(f"\nread 10,000 requests: {spent:.2f} s CPU")
    assert spent < 0.5


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "cache_aware"])
@pytest.mark.parametrize("collapses", [False, True], ids=["recovers", "collapses"])
def test_virtual_replay(workload: Workload, router: str, collapses: bool) -> None:
    rule = RetryRule("r", ttft_timeout_s=10.0, max_attempts=None, cancel=not collapses)
    profile = EngineProfile.load("h100-vllm-llama8b")
    made = []

    def replay() -> None:
        recorder = Recorder()
        VirtualRun(cell(router, client=rule, replicas=4), workload, profile, recorder).run()
        made.append(len(recorder.attempt_log))

    spent = cpu_s(replay)
    rate = made[0] / spent
    print(f"\n{router}, {'collapsed' if collapses else 'recovering'}: {made[0]} attempts, {rate:,.0f} attempts a CPU-second")
    assert rate > 8_000
