"""Speed and memory of the virtual replay, each case in its own process: `pytest tests/benchmarks -m benchmark -s` prints them.

512 tokens in and 128 out at 80% of the pool's capacity, and a pool in collapse. CPU seconds of one process; the machine may be
busy, so a short case is repeated and its least time counts.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.replay_speed import CASES, workload_of
from workloads.storage import write_workload

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).parents[2]
COLUMNS = ("case", "requests", "attempts", "req/CPU-s", "att/CPU-s", "read s", "replay s", "write s", "peak MB")
HEAD = ("\n{:18}" + "{:>10}" * 8).format(*COLUMNS)


def measured(case: str, requests: int, folder: Path, repeats: int = 1) -> dict[str, float]:
    """The figures of the fastest of some runs, with `rate` and `attempt_rate` (a CPU-second of replay) added, and printed."""
    workload = write_workload(workload_of(CASES[case], requests), folder)
    command = [sys.executable, "-m", "tests.benchmarks.replay_speed", case, str(workload), str(folder)]
    told = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout for _ in range(repeats)]
    best: dict[str, float] = min(map(json.loads, told), key=lambda run: run["replay_s"])
    best["rate"], best["attempt_rate"] = (best[key] / best["replay_s"] for key in ("requests", "attempts"))
    figures = [best[key] for key in ("requests", "attempts", "rate", "attempt_rate")]
    seconds = [best[key] for key in ("read_s", "replay_s", "write_s")]
    print(("{:18}" + "{:10,.0f}" * 4 + "{:10.2f}" * 3 + "{:10.0f}").format(case, *figures, *seconds, best["peak_mb"]))
    return best


@pytest.mark.parametrize(("case", "least"), [("round_robin", 25_000), ("least_outstanding", 25_000), ("cache_aware", 10_000)])
def test_requests_a_cpu_second(case: str, least: float, tmp_path: Path) -> None:
    print(HEAD)
    told = measured(case, 10_000, tmp_path, repeats=5)
    assert told["ok"] == told["requests"], "at 80% nothing fails"
    assert told["rate"] >= least


@pytest.mark.parametrize("case", ["collapse", "cancelled"])
def test_a_pool_in_collapse(case: str, tmp_path: Path) -> None:
    """Long queues and retries: the cost of an attempt stays what it is in good times."""
    print(HEAD)
    told = measured(case, 20_000, tmp_path, repeats=3)
    assert told["attempts"] > 1.5 * told["requests"], "it has collapsed"
    assert told["attempt_rate"] >= 20_000


def test_a_million_requests(tmp_path: Path) -> None:
    """Neither the rate nor the memory may depend on how long the run is.

    The writing of the rows counts on both sides: a long run turns nearly all of them into columns while it replays, a short one
    half of them when it writes.
    """
    print(HEAD)
    sizes = ((10_000, 5), (100_000, 3), (1_000_000, 2))
    rates = []
    for requests, repeats in sizes:
        told = measured("round_robin", requests, tmp_path, repeats)
        rates.append(told["requests"] / (told["replay_s"] + told["write_s"]))
    print("with the rows written: " + ", ".join(f"{rate:,.0f}" for rate in rates))
    few, *longer = rates
    most = told
    assert min(longer) >= 0.9 * few
    assert most["peak_mb"] <= 1000
