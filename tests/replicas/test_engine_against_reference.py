"""The fast engine does what the naive one does, on random workloads: same times, tokens, hits and preemptions."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.engine import INF, Engine
from replicas.profile import EngineProfile, StepTime
from replicas.sequence import Sequence, Stage, State
from tests.replicas.reference_engine import Job, ReferenceEngine
from workloads.request import Prompt, Segment

NAMES = {State.FINISHED: "finished", State.CANCELLED: "cancelled", State.REFUSED: "refused"}


@dataclass(frozen=True)
class Turn:
    """One request of a drawn session: new tokens of the user, tokens of the reply, when it is sent and given up."""

    user_tokens: int
    output_tokens: int
    after_s: float
    patience_s: float | None
    stage: Stage
    delay_s: float


def profiles() -> st.SearchStrategy[EngineProfile]:
    return st.builds(
        _profile,
        block_tokens=st.sampled_from([4, 5, 16]),
        context_blocks=st.integers(2, 12),
        spare_blocks=st.one_of(st.integers(0, 3), st.integers(0, 24)),
        max_running=st.integers(1, 6),
        spare_budget=st.sampled_from([0, 3, 17, 40, 200]),
        frontend_s=st.sampled_from([0.0, 0.0031]),
        cancel_lag_s=st.sampled_from([0.0, 0.0127]),
        max_queued=st.sampled_from([None, None, None, 3]),
        kv_s=st.sampled_from([0.0, 0.0000171]),
    )


# Step times are odd numbers on purpose: an arrival never falls on a step boundary, where rounding would decide.
def _profile(
    block_tokens: int,
    context_blocks: int,
    spare_blocks: int,
    max_running: int,
    spare_budget: int,
    frontend_s: float,
    cancel_lag_s: float,
    max_queued: int | None,
    kv_s: float,
) -> EngineProfile:
    return EngineProfile(
        name="drawn",
        engine="test",
        engine_version="",
        gpu="",
        model="",
        step=StepTime(0.0053172941, 0.0020719373, 0.00011317193, 0.00000039, 0.00011071931, kv_s, 0.0091531977),
        block_tokens=block_tokens,
        kv_blocks=context_blocks + spare_blocks,
        max_running=max_running,
        max_batched_tokens=max_running + spare_budget,
        context_tokens=context_blocks * block_tokens,
        frontend_s=frontend_s,
        cancel_lag_s=cancel_lag_s,
        max_queued=max_queued,
        frontend_s_per_token=frontend_s / 100,
    )


def _seconds(low: int, high: int) -> st.SearchStrategy[float]:
    return st.integers(low, high).map(lambda n: n * 0.00137)


turns = st.builds(
    Turn,
    user_tokens=st.one_of(st.integers(1, 6), st.integers(1, 40)),
    output_tokens=st.one_of(st.just(1), st.integers(1, 40), st.integers(10, 20)),
    after_s=st.one_of(_seconds(0, 20), _seconds(0, 250)),
    patience_s=st.one_of(st.none(), st.none(), _seconds(0, 300)),
    stage=st.sampled_from(["serve", "serve", "serve", "serve", "serve", "prefill", "decode"]),
    delay_s=st.one_of(st.just(0.0), _seconds(0, 20)),
)


@st.composite
def workloads(draw: st.DrawFn) -> list[Job]:
    """Sessions behind a few shared system prompts; later turns carry the history; some requests are sent twice."""
    jobs: list[Job] = []
    for session in range(draw(st.integers(3, 9))):
        now_s = draw(_seconds(0, 100))
        history: tuple[Segment, ...] = ()
        if system := draw(st.integers(0, 3)):
            history = (Segment(system, 11 * system),)
        for number, turn in enumerate(draw(st.lists(turns, min_size=2, max_size=4))):
            content = 1000 * (session + 1) + 2 * number
            segments = (*history, Segment(content, turn.user_tokens))
            now_s += turn.after_s
            for copy in range(draw(st.sampled_from([1, 1, 1, 2]))):
                sent_s = now_s + copy * 0.0229
                cancel_s = None if turn.patience_s is None else sent_s + turn.patience_s
                jobs.append(Job(0, segments, content + 1, turn.output_tokens, sent_s, cancel_s, turn.stage, turn.delay_s))
            history = (*segments, Segment(content + 1, turn.output_tokens))
    jobs.sort(key=lambda job: job.submit_s)
    for try_id, job in enumerate(jobs):
        job.try_id = try_id
    return jobs


@st.composite
def crowds(draw: st.DrawFn) -> tuple[EngineProfile, list[Job]]:
    """Few contents, long replies, a small pool: most examples preempt, evict and leave a prompt waiting for blocks."""
    block_tokens, context_blocks = draw(st.sampled_from([2, 4])), draw(st.integers(6, 16))
    context = block_tokens * context_blocks
    spare, places = draw(st.integers(0, 6)), draw(st.integers(3, 6))
    profile = _profile(block_tokens, context_blocks, spare, places, 200, 0.0, 0.0, None, 0.0000171)
    contents = [Segment(number, draw(st.integers(context // 9, context // 3))) for number in range(3)]
    jobs: list[Job] = []
    now_s = 0.0
    for number in range(draw(st.integers(6, 16))):
        now_s += draw(_seconds(0, 40))
        segments = draw(st.lists(st.sampled_from(contents), min_size=1, max_size=2))
        if tail := draw(st.sampled_from([0, 0, 1, 3])):
            segments = [*segments, Segment(100 + number, tail)]
        jobs.append(Job(number, tuple(segments), 1000 + number, draw(st.integers(1, context // 2)), now_s))
    return profile, jobs


class Driver:
    """Feeds the jobs to an `Engine` in time order and checks its promises at every wake."""

    def __init__(self, profile: EngineProfile, jobs: list[Job], reference: ReferenceEngine) -> None:
        self.engine = Engine(profile)
        self.reference = reference
        self.status: dict[int, int] = {}
        self.ended: list[Sequence] = []
        self.first: list[Sequence] = []
        self.sequences = {j.try_id: sequence_of(j) for j in jobs}
        self.events = [(job.submit_s, 0, job) for job in jobs]
        self.events += [(job.cancel_s, 1, job) for job in jobs if job.cancel_s is not None]
        self.events.sort(key=lambda e: (e[0], e[1], e[2].try_id))

    def run(self) -> None:
        for at_s, kind, job in self.events:
            self._wake_until(at_s)
            sequence = self.sequences[job.try_id]
            if kind == 0:
                self.status[job.try_id] = self.engine.submit(sequence, at_s, job.delay_s)
            elif self.status[job.try_id] == 200:
                self.engine.cancel(sequence, at_s)
        self._wake_until(INF)

    def _wake_until(self, until_s: float) -> None:
        engine = self.engine
        while engine.next_s < until_s:
            now_s = engine.next_s
            for sequence in engine.on_wake(now_s):
                (self.ended if sequence.state > State.DECODE else self.first).append(sequence)
            assert engine.next_s > now_s
            self._check_boundary(now_s)

    def _check_boundary(self, now_s: float) -> None:
        engine, cache = self.engine, self.engine.cache
        assert cache.free >= 0
        assert cache.evictable >= 0
        assert cache.available <= cache.kv_blocks
        if engine.running:
            gauges = self.reference.gauges[engine.counters.steps]
            assert now_s == pytest.approx(gauges.now_s, rel=1e-9)
            assert (engine.running, engine.waiting) == (gauges.running, gauges.waiting)
            assert (cache.available, cache.free) == (gauges.free_blocks, gauges.uncached_free_blocks)


def sequence_of(job: Job) -> Sequence:
    prompt = Prompt.of(job.segments)
    return Sequence(job.try_id, prompt, job.reply_id, job.output_tokens, job.stage, job.max_tokens, job.priority)


def same_time(seconds: float | None) -> object:
    return None if seconds is None else pytest.approx(seconds, rel=1e-9)


def compare(profile: EngineProfile, jobs: list[Job], kind: type[ReferenceEngine] = ReferenceEngine) -> Driver:
    """Serve the jobs on both engines; every sequence, every boundary and every counter must agree."""
    reference = kind(profile)
    driver = Driver(profile, jobs, reference)
    reference.serve(jobs)
    driver.run()
    engine = driver.engine
    for job in jobs:
        sequence = driver.sequences[job.try_id]
        assert driver.status[job.try_id] == job.status
        assert NAMES[sequence.state] == job.state
        assert sequence.first_token_s == same_time(job.first_token_s)
        assert sequence.ended_s == same_time(job.ended_s)
        assert sequence.max_gap_s == pytest.approx(job.max_gap_s, rel=1e-9, abs=1e-12)
        assert (sequence.cached_tokens, sequence.prefilled_tokens, sequence.generated) == (
            job.cached_tokens,
            job.prefilled_tokens,
            job.generated,
        )
    counters = engine.counters
    assert (counters.steps, counters.preemptions) == (reference.steps, reference.preemptions)
    assert (counters.prefix_hit_tokens, counters.prefix_query_tokens) == (reference.hit_tokens, reference.query_tokens)
    accepted = [s for s in driver.sequences.values() if s.state != State.REFUSED]
    assert sorted(s.try_id for s in driver.ended) == [s.try_id for s in accepted]
    assert len({s.try_id for s in driver.first}) == len(driver.first)
    assert (engine.running, engine.waiting, engine.waiting_tokens, engine.kv_tokens(1e9)) == (0, 0, 0, 0)
    assert engine.cache.available == profile.kv_blocks
    return driver


@settings(max_examples=300, deadline=None, derandomize=True)
@given(profile=profiles(), jobs=workloads())
def test_every_sequence_fares_as_in_the_reference(profile: EngineProfile, jobs: list[Job]) -> None:
    compare(profile, jobs)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(crowd=crowds())
def test_every_sequence_fares_as_in_the_reference_when_memory_is_short(crowd: tuple[EngineProfile, list[Job]]) -> None:
    compare(*crowd)
