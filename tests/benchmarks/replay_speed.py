"""One timed replay, for a process of its own: `python -m tests.benchmarks.replay_speed CASE WORKLOAD OUT` prints its figures.

It goes the whole way of a cell: the workload file is read, replayed in virtual time, and the rows are written.
"""

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from replay.cell import Cell
from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from tests.replay.scenes import cell
from workloads.request_table import RequestTable
from workloads.storage import read_workload
from workloads.workload import Phase, Workload

SATURATED_RPS = 51.0  # of one replica of the profile, 512 tokens in and 128 out (its provenance says so)
PATIENT = RetryRule("three tries", ttft_timeout_s=10.0, max_attempts=3)
FOREVER = RetryRule("for ever, orphaned", ttft_timeout_s=10.0, max_attempts=None, cancel=False)


@dataclass(frozen=True, slots=True)
class Case:
    """A pool under a share of its capacity; sessions of `turns` requests."""

    router: str
    replicas: int = 4
    load: float = 0.8
    turns: int = 1
    client: RetryRule = PATIENT
    until_s: float = float("inf")

    def cell(self) -> Cell:
        return replace(cell(self.router, client=self.client, replicas=self.replicas), drain_s=30.0)


CASES = {
    "round_robin": Case("round_robin"),
    "least_outstanding": Case("least_outstanding"),
    "cache_aware": Case("cache_aware", replicas=8, turns=5),
    "collapse": Case("round_robin", load=2.0, client=FOREVER),
    "cancelled": Case("round_robin", load=2.0, client=replace(FOREVER, cancel=True)),
}


def workload_of(case: Case, requests: int) -> Workload:
    """Poisson sessions. A first prompt has 512 tokens (single turns) or 256, 64 of them a system prompt; later turns add 64, and
    so make 512 in on average; 128 out; 5 s between an answer and the next turn."""
    draw = np.random.default_rng(7)
    sessions = -(-requests // case.turns)
    n = sessions * case.turns
    rps = SATURATED_RPS * case.replicas * case.load
    arrivals = np.cumsum(draw.exponential(case.turns / rps, sessions))
    turn = np.tile(np.arange(case.turns), sessions)
    first = turn == 0
    own = 512 if case.turns == 1 else 128
    bounds = np.concatenate([[0], np.cumsum(np.where(first, 2, 1))])
    ids = draw.integers(1, 1 << 62, bounds[-1])
    tokens = np.full(bounds[-1], 64)
    ids[bounds[:-1][first]] = 1
    tokens[bounds[:-1][first] + 1] = own - 64
    table = RequestTable(
        session_id=np.repeat(np.arange(sessions), case.turns),
        turn=turn,
        arrival_us=np.where(first, np.repeat(arrivals * 1e6, case.turns), -1).astype(np.int64),
        think_us=np.where(first, -1, 5_000_000),
        prompt_tokens=own + turn * 192,
        reply_id=draw.integers(1, 1 << 62, n),
        output_tokens=np.full(n, 128),
        tenant=np.zeros(n, np.int64),
        deadline_us=np.full(n, -1),
        extends=~first,
        new_bounds=bounds,
        new_ids=ids,
        new_tokens=tokens,
    )
    horizon_s = float(arrivals[-1]) + 60.0 * (case.turns > 1) + 1.0
    return Workload("speed", 7, (Phase("steady", horizon_s, rps),), table, {})


def timed(case: Case, path: Path, out: Path) -> dict[str, float]:
    """CPU seconds of each part of a cell, its rows, and the most memory that the process ever held."""
    began = time.process_time()
    workload = read_workload(path)
    profile = EngineProfile.load("h100-vllm-llama8b")
    read = time.process_time()
    recorder = Recorder()
    run = VirtualRun(case.cell(), workload, profile, recorder)
    run.run()
    replayed = time.process_time()
    recorder.write(out)
    written = time.process_time()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    counts = run.client.counts
    return {
        "requests": counts["scheduled"],
        "attempts": len(recorder.attempt_log),
        "ok": counts["ok"],
        "read_s": read - began,
        "replay_s": replayed - read,
        "write_s": written - replayed,
        "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(timed(CASES[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]))))
