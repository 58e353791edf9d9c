"""The simulator set up to be the retrying queue: one replica, one request at a time, exponential work. It judges nothing."""

from collections.abc import Sequence
from dataclasses import replace

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
from tests.theory.retrying_queue import RetryingQueue
from workloads.draws import generator
from workloads.request import Request, Segment
from workloads.workload import Phase, Workload

MEAN_TOKENS = 1000
JITTER = 0.5  # spreads the retries: the mean field takes them for Poisson
ANSWERED = {"ttft_s": None, "tpot_s": None, "e2e_s": None}


def profile_of(queue: RetryingQueue) -> EngineProfile:
    """Prefill only, a step a request. A block holds more than any prompt, so nothing is ever found in the prefix cache."""
    return EngineProfile(
        name="one-at-a-time",
        engine="vllm",
        engine_version="",
        gpu="",
        model="",
        step=StepTime(0.0, 0.0, 1 / (queue.service_rps * MEAN_TOKENS), 0.0, 0.0, 0.0),
        block_tokens=65536,
        kv_blocks=2,
        max_running=1,
        max_batched_tokens=65536,
        context_tokens=65536,
        frontend_s=0.0,
        cancel_lag_s=0.0,
    )


def client_of(queue: RetryingQueue) -> RetryRule:
    return RetryRule(
        "retrying",
        ttft_timeout_s=queue.timeout_s,
        max_attempts=queue.attempts,
        backoff_s=queue.backoff_s,
        backoff_factor=1.0,
        jitter=JITTER,
        cancel=False,
    )


def workload_of(pieces: Sequence[tuple[float, float]], seed: int) -> Workload:
    """Poisson arrivals at the (rps, seconds) of each piece; geometric prompts: the exponential of whole tokens."""
    draws = generator(seed, "theory")
    bounds = np.concatenate(([0.0], np.cumsum([d_s for _, d_s in pieces])))
    due = [draws.uniform(a, b, draws.poisson(rps * (b - a))) for (rps, _), a, b in zip(pieces, bounds, bounds[1:], strict=False)]
    times = np.sort(np.concatenate(due)).round(6).tolist()
    tokens = draws.geometric(1 / MEAN_TOKENS, len(times)).tolist()
    requests = [
        Request(i, i, 0, at_s, None, (Segment(1000 + i, n),), 9_000_000 + i, 1, 0)
        for i, (at_s, n) in enumerate(zip(times, tokens, strict=True))
    ]
    phases = tuple(Phase(f"piece {i}", d_s, rps) for i, (rps, d_s) in enumerate(pieces))
    return Workload.of("theory", seed, phases, requests, {})


def run(queue: RetryingQueue, pieces: Sequence[tuple[float, float]], seed: int) -> Course:
    """The course of one run. A root counts as met where any attempt was answered in time."""
    workload, recorder = workload_of(pieces, seed), Recorder()
    asked = replace(cell(client=client_of(queue), replicas=1), seed=seed, record_decisions=False, drain_s=40.0)
    VirtualRun(asked, workload, profile_of(queue), recorder).run()
    samples = RowLog(ReplicaSample, settled=lambda row: True)
    for sample in recorder.samples:
        samples.append(sample)
    return course_of(recorder.attempt_log.table(), samples.table(), ANSWERED, workload.horizon_s + asked.drain_s)


def answered(course: Course, start_s: float, end_s: float) -> float:
    """The share of the roots due from `start_s` to before `end_s` that were answered."""
    seen = course.cut(start_s, end_s)
    return float(seen.succeeded.sum() / seen.scheduled.sum())
