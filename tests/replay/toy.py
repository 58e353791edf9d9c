"""A toy of a pool: one small replica, and ways in which its clients retry. It judges nothing.

One replica; prompts of 200 tokens and answers of 20 on average (geometric); a step takes 13.4 ms, 0.2 ms a decoding sequence and
0.04 ms a prompt token, 16 sequences at once; a cancelled request leaves the engine 100 ms later; hardly any room for a prefix
cache. A request is served when its first token comes within 0.3 s of when it was first due: C* is 29 rps. Clients give up after
10 s without a first token; a retry comes 1 s ± 20% later, three at most.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.row_log import RowLog
from replay.rows import ReplicaSample
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile, StepTime
from reports.course import Course
from reports.live_course import course_of
from tests.replay.scenes import cell
from workloads.draws import generator
from workloads.request import Request, Segment
from workloads.workload import Phase, Workload

DRAIN_S = 20.0
PROMPT_TOKENS, ANSWER_TOKENS = 200, 20
SLO = {"ttft_s": 0.3, "tpot_s": None, "e2e_s": None}
PROFILE = EngineProfile(
    name="toy",
    engine="vllm",
    engine_version="",
    gpu="",
    model="",
    step=StepTime(0.0134, 0.0, 4e-5, 0.0, 0.0002, 0.0),
    block_tokens=16,
    kv_blocks=600,
    max_running=16,
    max_batched_tokens=8192,
    context_tokens=8192,
    frontend_s=0.0,
    cancel_lag_s=0.1,
)
PATIENCE = RetryRule("three retries", ttft_timeout_s=10.0, max_attempts=4, backoff_s=1.0, backoff_factor=1.0, cancel=False)


@dataclass(frozen=True)
class Way:
    """How clients retry, and what the engine's queue allows."""

    client: RetryRule
    engine: dict[str, Any]


WAYS = {
    "no retries": Way(replace(PATIENCE, max_attempts=1), {}),
    "cancelled": Way(replace(PATIENCE, cancel=True), {}),
    "orphaned": Way(PATIENCE, {}),
    "token bucket": Way(replace(PATIENCE, budget=0.05, budget_burst=10.0), {}),  # a first attempt adds 0.05, a retry takes 1
    "queue cap": Way(PATIENCE, {"max_queued": 64 + PROFILE.max_running}),  # counts the running ones, too
}


@lru_cache(maxsize=16)
def workload(pieces: tuple[tuple[float, float], ...], seed: int) -> Workload:
    """Poisson arrivals at the (rps, seconds) of each piece."""
    draws = generator(seed, "toy")
    bounds = np.concatenate(([0.0], np.cumsum([d_s for _, d_s in pieces])))
    due = [draws.uniform(a, b, draws.poisson(rps * (b - a))) for (rps, _), a, b in zip(pieces, bounds, bounds[1:], strict=False)]
    times = np.sort(np.concatenate(due)).round(6).tolist()
    lengths = draws.geometric(1 / ANSWER_TOKENS, len(times)).tolist()
    requests = [
        Request(i, i, 0, at_s, None, (Segment(1000 + i, PROMPT_TOKENS),), 9_000_000 + i, n, 0)
        for i, (at_s, n) in enumerate(zip(times, lengths, strict=True))
    ]
    phases = tuple(Phase(f"piece {i}", d_s, rps) for i, (rps, d_s) in enumerate(pieces))
    return Workload.of("toy", seed, phases, requests, {})


def course(
    way: Way, pieces: tuple[tuple[float, float], ...], seed: int, watch: Callable[[float, Recorder], None] | None = None
) -> Course:
    """The course of one run; `watch` is called with every second and the rows so far."""
    planned, recorder = workload(pieces, seed), Recorder()
    asked = replace(cell(client=way.client, replicas=1), seed=seed, record_decisions=False, drain_s=DRAIN_S)
    look = None if watch is None else lambda now_s: watch(now_s, recorder)
    VirtualRun(asked, planned, PROFILE.with_changes(way.engine), recorder, watch=look).run()
    return course_so_far(recorder, planned.horizon_s + DRAIN_S)


def course_so_far(recorder: Recorder, until_s: float) -> Course:
    samples = RowLog(ReplicaSample, settled=lambda row: True)
    for sample in recorder.samples:
        samples.append(sample)
    return course_of(recorder.attempt_log.table(), samples.table(), SLO, until_s)
