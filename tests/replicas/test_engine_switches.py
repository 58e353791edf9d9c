"""What can go wrong at one engine, switch by switch: lost cancellations, impatient queues, slow front ends, pinned KV."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicas.engine import INF, Engine
from replicas.front_end import FrontEnd
from replicas.profile import EngineProfile
from replicas.sequence import Sequence, State
from tests.replicas.reference_engine import Job
from tests.replicas.test_engine import PROFILE, STEP_S, Bench, steps
from tests.replicas.test_engine_against_reference import crowds, profiles, sequence_of, workloads
from workloads.request import Prompt, Segment

# Lost cancellations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "least", "most"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_a_share_of_cancellations_never_reaches_the_engine(loss: float, least: int, most: int) -> None:
    bench = Bench(cancel_loss=loss, max_running=256)
    sequences = [bench.send((n, 1), output=50) for n in range(200)]
    bench.run(0.105)
    for sequence in sequences:
        bench.engine.cancel(sequence, 0.105)
    bench.run()
    finished = sum(s.state == State.FINISHED for s in sequences)
    assert least <= finished <= most
    assert bench.engine.counters.lost_cancels == finished
    assert sum(s.state == State.CANCELLED for s in sequences) == 200 - finished


def test_which_cancellations_are_lost_depends_on_the_try_alone() -> None:
    lost = []
    for at_s in (0.005, 0.105):
        bench = Bench(cancel_loss=0.5, max_running=256)
        sequences = [bench.send((n, 1), output=50) for n in range(50)]
        bench.run(at_s)
        for sequence in reversed(sequences):
            bench.engine.cancel(sequence, at_s)
        bench.run()
        lost.append([s.try_id for s in sequences if s.state == State.FINISHED])
    assert lost[0] == lost[1] != []


# Queue timeout -------------------------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_dropped_at_the_next_boundary_and_who_runs_is_not() -> None:
    bench = Bench(max_running=1, queue_timeout_s=0.2)
    running = bench.send((1, 16), output=100)
    waiting = [bench.send((n, 16), output=1, at_s=0.002 * n) for n in (2, 3)]
    bench.run(0.203)
    assert [s.state for s in waiting] == [State.QUEUED] * 2
    bench.run()
    assert [(s.state, s.status, steps(s.ended_s)) for s in waiting] == [(State.DROPPED, 503, 21)] * 2
    assert (running.state, steps(running.ended_s)) == (State.FINISHED, 100)
    assert bench.engine.counters.queue_timeouts == 2
    assert (bench.engine.waiting, bench.engine.waiting_tokens) == (0, 0)


def test_the_timeout_counts_from_when_the_scheduler_saw_it() -> None:
    bench = Bench(max_running=1, queue_timeout_s=0.2, frontend_s=0.1)
    bench.send((1, 16), output=100)
    waiting = bench.send((2, 16), output=1, at_s=0.001)
    bench.run()
    assert waiting.ended_s == pytest.approx(0.1 + 21 * STEP_S)


def test_a_preempted_sequence_has_been_served_and_is_not_dropped() -> None:
    bench = Bench(kv_blocks=8, context_tokens=128, queue_timeout_s=0.05)
    bench.send((1, 48), output=40)
    newest = bench.send((2, 48), output=40)
    bench.run()
    assert bench.engine.counters.preemptions == 1
    assert newest.state == State.FINISHED


# Front end -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("streams", "late_s"), [(1, 0.001), (8, 0.008)])
def test_a_token_is_heard_a_chunk_later_for_every_stream(streams: int, late_s: float) -> None:
    at_once, slow = Bench(), Bench(frontend_chunk_s=0.001)
    for bench in (at_once, slow):
        for n in range(streams):
            bench.send((n, 10), output=20)
        bench.run()
    for quick, heard in zip(at_once.sequences, slow.sequences, strict=True):
        assert heard.first_token_s == pytest.approx((quick.first_token_s or 0.0) + 0.001 + late_s)
        assert heard.max_gap_s == quick.max_gap_s
        assert (heard.ended_s or 0.0) - (quick.ended_s or 0.0) == pytest.approx(0.001)  # nobody runs any more
    assert slow.engine.counters == at_once.engine.counters  # the engine itself is not slowed down


def test_a_cancelled_sequence_is_told_once_though_its_first_token_is_still_held() -> None:
    engine = Engine(replace(PROFILE, frontend_chunk_s=0.5))
    sequence = Sequence(0, Prompt.of((Segment(1, 10),)), -1, 100)
    engine.submit(sequence, 0.0)
    engine.on_wake(engine.next_s)
    engine.on_wake(engine.next_s)
    engine.cancel(sequence, 0.02)
    told = []
    while engine.next_s < INF:
        told += engine.on_wake(engine.next_s)
    assert told == [sequence]
    assert sequence.state == State.CANCELLED


def test_a_first_token_that_leaves_with_its_end_is_told_once() -> None:
    front = FrontEnd(1.0)
    sequence = Sequence(0, Prompt.of((Segment(1, 10),)), -1, 2)
    sequence.first_token_s = 0.0
    front.hold([sequence], 0.0, 0.0, 5)
    sequence.state, sequence.ended_s = State.FINISHED, 0.1
    front.hold([sequence], 0.1, 0.1, 0)
    assert front.deliver(6.0) == [sequence]
    assert (sequence.first_token_s, sequence.ended_s) == (6.0, 6.0)


def test_chunks_leave_in_order() -> None:
    front = FrontEnd(0.1)
    pair = [Sequence(n, Prompt.of((Segment(1, 10),)), -1, 100) for n in range(2)]
    for sequence, streams in zip(pair, (9, 0), strict=True):
        sequence.first_token_s = 1.0
        assert front.hold([sequence], 1.0, 1.0, streams) == []
    assert [s.first_token_s for s in pair] == [2.0, 2.0]
    assert front.deliver(1.9) == []
    assert front.deliver(2.0) == pair


# Prefill and decode replicas -----------------------------------------------------------------------------------------------


def prefill(bench: Bench, content: int, tokens: int, at_s: float = 0.0) -> Sequence:
    bench.run(at_s)
    sequence = Sequence(content, Prompt.of((Segment(content, tokens),)), -content, 10, "prefill")
    bench.engine.submit(sequence, at_s)
    return sequence


@pytest.mark.parametrize("scheduler", ["vllm", "sglang", "orca", "sarathi"])
def test_prefilled_kv_is_kept_until_it_is_fetched(scheduler: str) -> None:
    bench = Bench(scheduler=scheduler, kv_pin_timeout_s=60.0, kv_blocks=640, context_tokens=8192)
    first = prefill(bench, 1, 8000)
    second = prefill(bench, 2, 8000, at_s=0.5)
    bench.run(1.0)
    assert (first.state, bench.engine.pinned) == (State.FINISHED, 1)
    assert (bench.engine.running, bench.engine.waiting) == (0, 1)  # 500 of 640 blocks are pinned
    assert bench.engine.kv_used(1.0) == pytest.approx(500 / 640, abs=0.01)
    bench.engine.fetched(first, 1.0)
    bench.run(59.0)
    assert second.state == State.FINISHED
    assert (second.first_token_s or 0.0) >= 1.0
    assert (bench.engine.pinned, bench.engine.counters.expired_pins) == (1, 0)
    bench.engine.fetched(second, 59.0)
    bench.engine.fetched(second, 59.0)  # once is enough
    bench.run()
    assert bench.engine.cache.available == 640


def test_the_kv_of_a_dead_request_is_kept_until_its_timeout_and_starves_the_next() -> None:
    bench = Bench(kv_pin_timeout_s=5.0)
    dead = prefill(bench, 1, 8000)
    starved = prefill(bench, 2, 8000, at_s=0.5)
    bench.run()
    assert dead.ended_s == pytest.approx(16 * STEP_S)
    # It would not fit whole beside the dead request's blocks, so all of its 16 chunks are computed after the timeout.
    assert starved.first_token_s == pytest.approx(16 * STEP_S + 5.0 + 16 * STEP_S)
    assert bench.engine.counters.expired_pins == 1


def test_without_a_timeout_nothing_is_kept() -> None:
    bench = Bench()
    prefill(bench, 1, 8000)
    bench.run()
    assert (bench.engine.pinned, bench.engine.cache.used) == (0, 0.0)


def test_a_transfer_takes_its_latency_and_its_tokens() -> None:
    profile = replace(PROFILE, kv_transfer_latency_s=0.02, kv_transfer_s_per_token=1e-5)
    assert profile.kv_transfer_s(1000) == pytest.approx(0.03)


# All of it at once ---------------------------------------------------------------------------------------------------------


def ends(profile: EngineProfile, jobs: list[Job]) -> dict[int, Sequence]:
    """Serve the jobs; every second prefill is fetched. Checks that the engine tells of each end once and then is empty."""
    engine = Engine(profile)
    events = sorted([(j.submit_s, 0, j) for j in jobs] + [(j.cancel_s, 1, j) for j in jobs if j.cancel_s is not None], key=_when)
    sequences = {j.try_id: sequence_of(j) for j in jobs}
    told: list[int] = []
    firsts: list[int] = []

    def wake_until(until_s: float) -> None:
        while engine.next_s < until_s:
            now_s = engine.next_s
            for sequence in engine.on_wake(now_s):
                (told if sequence.ended_s is not None else firsts).append(sequence.try_id)
                if sequence.state == State.FINISHED and sequence.stage == "prefill" and sequence.try_id % 2:
                    engine.fetched(sequence, now_s)
            assert engine.next_s >= now_s
            assert 0 <= engine.cache.free <= engine.cache.available <= engine.cache.kv_blocks

    for at_s, kind, job in events:
        wake_until(at_s)
        sequence = sequences[job.try_id]
        if kind == 0:
            engine.submit(sequence, at_s, job.delay_s)
        elif sequence.state != State.REFUSED:
            engine.cancel(sequence, at_s)
    wake_until(INF)
    assert sorted(told) == sorted(s.try_id for s in sequences.values() if s.state != State.REFUSED)
    assert len(set(firsts)) == len(firsts)
    assert (engine.running, engine.waiting, engine.waiting_tokens, engine.kv_tokens(1e9)) == (0, 0, 0, 0)
    pinned = sum(s.lease is not None for s in sequences.values())  # an idle engine has no reason to wake for their timeout
    assert engine.pinned == pinned
    assert pinned > 0 or engine.cache.available == engine.cache.kv_blocks
    return sequences


def _when(event: tuple[float, int, Job]) -> tuple[float, int, int]:
    return event[0], event[1], event[2].try_id


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    case=st.one_of(st.tuples(profiles(), workloads()), crowds()),
    scheduler=st.sampled_from(["vllm", "sglang", "orca", "sarathi"]),
    cancel_loss=st.sampled_from([0.0, 0.5]),
    queue_timeout_s=st.sampled_from([None, 0.01, 0.1]),
    frontend_chunk_s=st.sampled_from([0.0, 0.0021]),
    kv_pin_timeout_s=st.sampled_from([0.0, 0.0513, 0.31]),
)
def test_every_request_ends_once_whatever_is_switched_on(
    case: tuple[EngineProfile, list[Job]],
    scheduler: str,
    cancel_loss: float,
    queue_timeout_s: float | None,
    frontend_chunk_s: float,
    kv_pin_timeout_s: float,
) -> None:
    profile, jobs = case
    profile = replace(
        profile,
        scheduler=scheduler,
        kv_blocks=profile.kv_blocks + 1 + profile.kv_blocks // 50,
        cancel_loss=cancel_loss,
        queue_timeout_s=queue_timeout_s,
        frontend_chunk_s=frontend_chunk_s,
        kv_pin_timeout_s=kv_pin_timeout_s,
    )
    sequences = ends(profile, jobs)
    dropped = [s for s in sequences.values() if s.state == State.DROPPED]
    assert all(s.status == 503 and not s.generated for s in dropped if s.status == 503)
    assert queue_timeout_s is not None or all(s.status == 500 for s in dropped)
    finished = [s for s in sequences.values() if s.state == State.FINISHED]
    assert all(s.generated == s.output_tokens for s in finished)
