"""A small scenario for an engine's scheduler, step by step, and what our engine model does with it. It knows no real engine.

Time is counted in steps, so that a real scheduler and the model can be laid side by side: requests join and leave between two
steps, and a timeline says what every step scheduled.
"""

import random
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from replicas.engine import Engine
from replicas.profile import EngineProfile, StepTime
from replicas.scheduler_settings import VllmSettings
from replicas.sequence import Sequence, State
from tests.engines.stream import token_ids
from workloads.request import Prompt, Segment

STEP_S = 0.01
FLAGS = ("policy", "long_prefill_token_threshold", "whole_prompt_must_fit", "watermark")  # what a scenario sets of vLLM's own


@dataclass(frozen=True)
class Job:
    """A request: `segments` are (content, tokens) pairs, the reply is the content `reply_id`.

    It joins when `after_steps` steps are done, counted from the end of job number `after_job` if there is one, and its client
    hangs up when `cancel_after_steps` steps are done (never: None).
    """

    segments: tuple[tuple[int, int], ...]
    reply_id: int
    output_tokens: int
    after_steps: int = 0
    after_job: int | None = None
    cancel_after_steps: int | None = None
    priority: int = 0

    @property
    def prompt_tokens(self) -> int:
        return sum(tokens for _, tokens in self.segments)


def tokens_of(job: Job, replies: dict[int, list[int]] | None = None) -> list[int]:
    """The prompt's token ids; contents in `replies` are what an engine really answered."""
    known = replies or {}
    return [t for content, n in job.segments for t in known.get(content, token_ids(content, n))]


@dataclass(frozen=True)
class Scenario:
    """An engine's limits and its jobs; `kv_blocks` are those that sequences can use."""

    jobs: tuple[Job, ...]
    block_tokens: int = 16
    kv_blocks: int = 64
    max_running: int = 8
    max_batched_tokens: int = 512
    context_tokens: int = 1024
    policy: str = "fcfs"
    long_prefill_token_threshold: int = 0
    whole_prompt_must_fit: bool = True  # vLLM's scheduler_reserve_full_isl and its default
    watermark: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def profile(self, **changes: Any) -> EngineProfile:
        """The same limits as a profile of the vllm flavour, whose every step takes `STEP_S`."""
        flags = {f.name: getattr(self, f.name) for f in fields(VllmSettings)}
        limits = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("jobs", *FLAGS)}
        step = StepTime(STEP_S, 0.0, 0.0, 0.0, 0.0, 0.0)
        made = EngineProfile("scenario", "test", "", "", "", step, **limits, frontend_s=0.0, cancel_lag_s=0.0)
        return replace(made, **{"scheduler_settings": flags, **changes})


@dataclass
class Timeline:
    """By step: tokens that each job has put out at its end, blocks held and jobs running or waiting in it, preemptions so far.

    By job: tokens found in the cache at its first admission (None: never admitted), prefill tokens computed in all.
    """

    generated: list[list[int]] = field(default_factory=list)
    used_blocks: list[int] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    preemptions: list[int] = field(default_factory=list)
    cached: list[int | None] = field(default_factory=list)
    prefilled: list[int] = field(default_factory=list)

    def stalls(self, job: int, output_tokens: int, steps: int) -> list[int]:
        """After which tokens a job stood still for `steps` steps or more."""
        out = [g[job] for g in self.generated]
        return sorted({a for a, b in zip(out, out[steps:], strict=False) if a == b and 0 < a < output_tokens})

    def difference(self, other: "Timeline") -> str:
        """Empty where they are alike, else the first step (or job) that tells them apart."""
        for name in ("generated", "preemptions", "running", "waiting", "used_blocks"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for step, (a, b) in enumerate(zip(mine, theirs, strict=False)):
                if a != b:
                    return f"{name} in step {step}: {a} against {b}"
            if len(mine) != len(theirs):
                return f"{len(mine)} steps against {len(theirs)}"
        for name in ("cached", "prefilled"):
            if getattr(self, name) != getattr(other, name):
                return f"{name}: {getattr(self, name)} against {getattr(other, name)}"
        return ""


class ModelRun:
    """Our engine on a scenario, looked at in the middle of every step."""

    def __init__(self, scenario: Scenario, profile: EngineProfile | None = None) -> None:
        self._engine = Engine(profile or scenario.profile())
        self._jobs = scenario.jobs
        self._blocks = scenario.kv_blocks
        self._due = set(range(len(scenario.jobs)))
        self._sequences: dict[int, Sequence] = {}
        self._ended: dict[int, int] = {}  # job → steps done when it ended
        self._done = 0
        self._timeline = Timeline()

    def run(self) -> Timeline:
        now_s = 0.0
        while self._due or len(self._ended) < len(self._sequences):
            if len(self._ended) == len(self._sequences):
                now_s += STEP_S  # idle: the next jobs are due at once
                self._join(max(self._done, min(self._due_after(i) for i in self._due)), now_s)
                began_s, before = now_s, self._done
            self._run_until(now_s := began_s + (self._done - before + 0.5) * STEP_S)
            self._look(now_s)
            self._join(self._done + 1, now_s)
            self._hang_up(self._done + 1, now_s)
            self._run_until(now_s + STEP_S / 2 + STEP_S / 1000)
            now_s += STEP_S / 2
            self._done += 1
            self._timeline.generated.append(self._generated(now_s + STEP_S / 1000))
            self._timeline.preemptions.append(self._preemptions)
            for i, sequence in self._sequences.items():
                if sequence.state >= State.FINISHED:
                    self._ended.setdefault(i, self._done)
        jobs = [self._sequences[i] for i in range(len(self._jobs))]
        self._timeline.cached = [s.cached_tokens if s.admitted else None for s in jobs]
        self._timeline.prefilled = [s.prefilled_tokens for s in jobs]
        return self._timeline

    def _look(self, now_s: float) -> None:
        timeline, engine = self._timeline, self._engine
        timeline.used_blocks.append(round(engine.kv_used(now_s) * self._blocks))
        timeline.running.append(engine.running)
        timeline.waiting.append(engine.waiting)
        self._preemptions = engine.counters.preemptions

    def _due_after(self, i: int) -> int:
        job = self._jobs[i]
        return job.after_steps + (0 if job.after_job is None else self._ended.get(job.after_job, 1 << 60))

    def _join(self, done: int, now_s: float) -> None:
        for i in sorted(self._due):
            if self._due_after(i) <= done:
                self._due.remove(i)
                job = self._jobs[i]
                prompt = Prompt.of(tuple(Segment(*s) for s in job.segments))
                self._sequences[i] = Sequence(i, prompt, job.reply_id, job.output_tokens, priority=job.priority)
                status = self._engine.submit(self._sequences[i], now_s)
                assert status == 200, (i, status)

    def _hang_up(self, done: int, now_s: float) -> None:
        for i, sequence in self._sequences.items():
            if i not in self._ended and self._jobs[i].cancel_after_steps == done:
                self._engine.cancel(sequence, now_s)

    def _run_until(self, now_s: float) -> None:
        while self._engine.next_s < now_s:
            self._engine.on_wake(self._engine.next_s)

    def _generated(self, now_s: float) -> list[int]:
        return [self._engine.generated(self._sequences[i], now_s) if i in self._sequences else 0 for i in range(len(self._jobs))]


def drawn(seed: int, cancels: bool = False, priorities: bool = False) -> Scenario:
    """A random scenario: sessions of growing prompts behind shared prefixes, in a pool that is often too small for all."""
    draw = random.Random(seed)
    block = draw.choice([4, 16, 32])
    context = draw.randint(3, 12)
    systems = [(1 + i, draw.randint(1, 2 * block)) for i in range(3)]  # a content id always has the same tokens
    jobs: list[Job] = []
    for _ in range(draw.randint(1, 6)):
        segments: tuple[tuple[int, int], ...] = (draw.choice(systems),)
        after_job = None
        for _ in range(draw.randint(1, 3)):
            segments = (*segments, (100 + len(jobs), draw.randint(1, 3 * block)))
            room = context * block - sum(tokens for _, tokens in segments)
            if room < 1:
                break
            output = draw.randint(1, min(room, 3 * block))
            cancel = draw.randint(1, 60) if cancels and draw.random() < 0.3 else None
            after = draw.randint(0, 40) if after_job is None else draw.randint(1, 5)
            priority = draw.randint(0, 2) if priorities else 0
            jobs.append(Job(segments, 1000 + len(jobs), output, after, after_job, cancel, priority))
            after_job = len(jobs) - 1
            segments = (*segments, (1000 + after_job, output))
    if not jobs:
        return drawn(seed + 1_000_003, cancels, priorities)
    running = draw.randint(1, 6)
    return Scenario(
        jobs=tuple(jobs),
        block_tokens=block,
        kv_blocks=context + draw.choice([0, 1, 3, 8, 24]),
        max_running=running,
        max_batched_tokens=max(running, block) + draw.choice([0, 3, 17, 40, 200]),
        context_tokens=context * block,
        policy="priority" if priorities else "fcfs",
    )
