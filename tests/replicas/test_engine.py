"""The scheduler's rules, one by one, on an engine whose every step takes exactly 10 ms."""

from dataclasses import replace

import pytest

from replicas.engine import INF, Engine
from replicas.profile import EngineProfile, StepTime
from replicas.sequence import Sequence, State
from workloads.request import Prompt, Segment

STEP_S = 0.01
PROFILE = EngineProfile(
    name="ten-milliseconds",
    engine="vllm",
    engine_version="",
    gpu="",
    model="",
    step=StepTime(STEP_S, 0.0, 0.0, 0.0, 0.0, 0.0),
    block_tokens=16,
    kv_blocks=640,
    max_running=8,
    max_batched_tokens=512,
    context_tokens=8192,
    frontend_s=0.0,
    cancel_lag_s=0.0,
)


class Bench:
    """An engine and the sequences it was given, in order."""

    def __init__(self, **changes: object) -> None:
        self.engine = Engine(replace(PROFILE, **changes))  # type: ignore[arg-type]
        self.sequences: list[Sequence] = []

    def send(self, *segments: tuple[int, int], output: int, at_s: float = 0.0, reply: int | None = None) -> Sequence:
        """Submit a prompt of (content, tokens) segments at `at_s`, after all that happens before."""
        self.run(at_s)
        number = len(self.sequences)
        prompt = Prompt.of(tuple(Segment(*s) for s in segments))
        sequence = Sequence(number, prompt, -1 - number if reply is None else reply, output)
        self.sequences.append(sequence)
        self.status = self.engine.submit(sequence, at_s)
        return sequence

    def run(self, until_s: float = INF) -> None:
        while self.engine.next_s < until_s:
            self.engine.on_wake(self.engine.next_s)


def steps(seconds: float | None) -> int:
    assert seconds is not None
    assert seconds / STEP_S == pytest.approx(round(seconds / STEP_S))
    return round(seconds / STEP_S)


@pytest.mark.parametrize(
    ("prompt", "output", "first", "end"),
    [
        (1, 1, 1, 1),
        (512, 1, 1, 1),  # just fits the budget
        (513, 1, 2, 2),  # one token more: a second chunk
        (1536, 1, 3, 3),
        (1537, 4, 4, 7),  # the step that completes the prefill puts out one token, then one a step
    ],
)
def test_a_prefill_is_cut_into_chunks_of_the_token_budget(prompt: int, output: int, first: int, end: int) -> None:
    bench = Bench()
    sequence = bench.send((1, prompt), output=output)
    bench.run()
    assert (steps(sequence.first_token_s), steps(sequence.ended_s)) == (first, end)
    assert (sequence.prefilled_tokens, sequence.generated) == (prompt, output)


def test_decodes_go_on_while_a_long_prompt_is_prefilled() -> None:
    bench = Bench()
    decoding = bench.send((1, 16), output=40)
    long = bench.send((2, 4096), output=1, at_s=0.055)
    bench.run()
    assert steps(decoding.ended_s) == 40  # as if it were alone
    assert decoding.max_gap_s == pytest.approx(STEP_S)
    # The 6 steps begun before it came, then 4096 tokens at 511 a step, for the decode takes one token of each budget.
    assert steps(long.first_token_s) == 6 + 9


def test_requests_share_the_budget_first_come_first_served() -> None:
    bench = Bench()
    firsts = [bench.send((n, 300), output=1) for n in range(1, 4)]
    bench.run()
    # 300 + 212 | 88 + 300
    assert [steps(s.first_token_s) for s in firsts] == [1, 2, 2]


def test_a_place_in_the_batch_frees_only_when_a_sequence_leaves() -> None:
    bench = Bench(max_running=2)
    sequences = [bench.send((n, 16), output=n) for n in (5, 3, 1)]
    bench.run(0.001)
    assert (bench.engine.running, bench.engine.waiting) == (2, 1)
    bench.run()
    assert [steps(s.ended_s) for s in sequences] == [5, 3, 4]


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        (128, 112),  # the last token is always computed, and with it its block
        (129, 128),
        (127, 112),
        (16, 0),
        (17, 16),
        (15, 0),
    ],
)
def test_a_repeated_prompt_is_cached_but_for_its_last_token(prompt: int, cached: int) -> None:
    bench = Bench()
    first = bench.send((1, prompt), output=1)
    second = bench.send((1, prompt), output=1, at_s=1.0)
    bench.run()
    assert (first.cached_tokens, second.cached_tokens) == (0, cached)
    assert second.prefilled_tokens == prompt - cached
    assert bench.engine.counters.prefix_hit_tokens == cached
    assert bench.engine.counters.prefix_query_tokens == 2 * prompt


@pytest.mark.parametrize(("prompt", "output"), [(100, 60), (100, 61), (96, 1), (7, 9), (7, 10), (3, 5)])
def test_the_next_turn_hits_the_prompt_and_the_reply_but_for_the_replys_last_token(prompt: int, output: int) -> None:
    bench = Bench()
    bench.send((1, prompt), output=output, reply=2)
    following = bench.send((1, prompt), (2, output), (3, 50), output=1, at_s=5.0)
    bench.run()
    assert following.cached_tokens == (prompt + output - 1) // 16 * 16


def test_a_shared_system_prompt_is_hit_while_the_first_request_still_runs() -> None:
    bench = Bench()
    bench.send((1, 320), (2, 10), output=50)
    second = bench.send((1, 320), (3, 10), output=1, at_s=0.015)
    bench.run()
    assert second.cached_tokens == 320


def test_requests_that_arrive_together_share_what_is_scheduled_in_the_same_step() -> None:
    bench = Bench()
    pair = [bench.send((1, 160), (n, 10), output=1) for n in (2, 3)]
    bench.run()
    assert [s.cached_tokens for s in pair] == [0, 160]
    assert [steps(s.first_token_s) for s in pair] == [1, 1]


@pytest.mark.parametrize(("prompt", "status"), [(1, 200), (8191, 200), (8192, 400), (9000, 400), (0, 400)])
def test_a_prompt_must_have_a_token_and_leave_room_for_one(prompt: int, status: int) -> None:
    bench = Bench()
    sequence = bench.send((1, prompt), output=1)
    bench.run()
    assert bench.status == status
    assert sequence.state == (State.FINISHED if status == 200 else State.REFUSED)
    assert sequence.generated == (1 if status == 200 else 0)


def test_an_output_is_clamped_to_the_context() -> None:
    bench = Bench()
    sequence = bench.send((1, 8000), output=1000)
    bench.run()
    assert sequence.generated == 192


@pytest.mark.parametrize(
    ("scheduler", "answers"),
    [
        ("vllm", [200, 503, 503, 503]),  # counts all in flight: the running one takes a place
        ("sarathi", [200, 200, 503, 503]),  # the others count those that wait
        ("orca", [200, 200, 503, 503]),
        ("sglang", [200, 200, 503, 503]),
    ],
)
def test_a_full_queue_refuses_with_503(scheduler: str, answers: list[int]) -> None:
    bench = Bench(max_running=1, max_queued=2, scheduler=scheduler)
    bench.send((1, 16), output=10)
    given = []
    for n in range(2, 6):
        bench.send((n, 16), output=1, at_s=0.005)
        given.append(bench.status)
    bench.run()
    assert given == answers
    assert bench.engine.counters.refusals == answers.count(503)
    assert [s.state for s in bench.sequences[1:]].count(State.REFUSED) == answers.count(503)


def test_the_scheduler_sees_a_request_after_the_front_end() -> None:
    bench = Bench(frontend_s=0.004, frontend_s_per_token=0.0001)
    sequence = bench.send((1, 100), output=1)
    bench.run()
    assert sequence.first_token_s == pytest.approx(0.004 + 0.01 + STEP_S)


def test_the_shorter_prompt_overtakes_in_the_front_end_and_equals_keep_their_order() -> None:
    bench = Bench(max_running=1, frontend_s_per_token=0.0001)
    sequences = [bench.send((n, tokens), output=1) for n, tokens in ((1, 100), (2, 20), (3, 20), (4, 20))]
    bench.run()
    order = sorted(sequences, key=lambda s: s.first_token_s or INF)
    assert [s.try_id for s in order] == [1, 2, 3, 0]


@pytest.mark.parametrize("lag_s", [0.0, 0.05])
def test_a_cancellation_frees_the_blocks_at_the_first_boundary_after_its_lag(lag_s: float) -> None:
    bench = Bench(cancel_lag_s=lag_s)
    sequence = bench.send((1, 160), output=1000)
    bench.run(0.105)
    bench.engine.cancel(sequence, 0.105)
    bench.run()
    assert sequence.state == State.CANCELLED
    assert steps(sequence.ended_s) == 11 + round(lag_s / STEP_S)
    assert sequence.generated == 11 + round(lag_s / STEP_S)
    assert bench.engine.cache.used == 0.0


def test_a_waiting_request_leaves_the_queue_at_the_boundary_and_was_never_prefilled() -> None:
    bench = Bench(max_running=1)
    bench.send((1, 16), output=500)
    waiting = bench.send((2, 16), output=1, at_s=0.005)
    bench.run(0.102)
    bench.engine.cancel(waiting, 0.102)
    bench.run(0.112)
    assert (waiting.state, bench.engine.waiting) == (State.CANCELLED, 0)
    assert (steps(waiting.ended_s), waiting.prefilled_tokens) == (11, 0)


def test_work_that_nobody_cancels_goes_on_to_its_end() -> None:
    bench = Bench(max_running=1)
    orphan = bench.send((1, 16), output=300)
    behind = bench.send((2, 16), output=1, at_s=0.005)
    bench.run()
    assert (orphan.state, orphan.generated, steps(orphan.ended_s)) == (State.FINISHED, 300, 300)
    assert steps(behind.first_token_s) == 301


def test_a_cancellation_that_comes_after_the_end_changes_nothing() -> None:
    bench = Bench()
    sequence = bench.send((1, 16), output=2)
    bench.run(1.0)
    bench.engine.cancel(sequence, 1.0)
    bench.run()
    assert (sequence.state, steps(sequence.ended_s)) == (State.FINISHED, 2)


def test_the_newest_sequence_is_preempted_recomputed_and_keeps_its_tokens() -> None:
    bench = Bench(kv_blocks=8, context_tokens=128)
    # 3 blocks each at first; at 49 tokens each wants a fourth, at 65 a fifth, and the pool holds 8.
    oldest = bench.send((1, 48), output=40)
    newest = bench.send((2, 48), output=40)
    bench.run()
    assert bench.engine.counters.preemptions == 1
    # Both hold 4 blocks until the step that wants token 65: step 1 gave the first token, so that is step 18.
    assert steps(oldest.ended_s) == 40
    assert oldest.max_gap_s == pytest.approx(STEP_S)
    # It returns when the oldest is gone, after step 40, and puts out its 18th token at the end of step 41.
    assert steps(newest.ended_s) == 41 + (40 - 18)
    assert newest.max_gap_s == pytest.approx((41 - 17) * STEP_S)
    assert newest.generated == 40
    assert newest.cached_tokens == 0  # what it had at its first admission; the return is not a hit


def test_a_preempted_sequence_finds_its_own_blocks_again_when_nobody_took_them() -> None:
    bench = Bench(kv_blocks=8, context_tokens=128)
    oldest = bench.send((1, 48), output=20)
    newest = bench.send((2, 48), output=40)
    bench.run()
    assert bench.engine.counters.preemptions == 1
    assert steps(oldest.ended_s) == 20
    # Preempted with 48 + 17 tokens in 4 full blocks; the oldest took one of them, the tail: 48 are hit, 17 computed again.
    assert newest.prefilled_tokens == 48 + 17


def test_nothing_is_admitted_in_a_step_that_preempted() -> None:
    bench = Bench(kv_blocks=8, context_tokens=128)
    bench.send((1, 48), output=40)
    bench.send((2, 48), output=40)
    bench.run(0.165)
    small = bench.send((3, 1), output=1, at_s=0.165)
    bench.run(0.175)
    assert bench.engine.counters.preemptions == 1
    assert (bench.engine.running, bench.engine.waiting) == (1, 2)
    bench.run()
    assert steps(small.first_token_s) > 40  # first come, first served: it waits behind the preempted one


def test_a_prompt_that_cannot_get_its_blocks_does_not_refresh_its_cached_prefix() -> None:
    bench = Bench(kv_blocks=12, context_tokens=192)
    bench.send((1, 16), (2, 1), output=1)  # leaves block "1", the least recently released
    bench.send((3, 16), (4, 1), output=1, at_s=0.1)  # leaves block "3"
    bench.send((5, 112), output=60, at_s=0.2)  # holds 7 blocks, 11 in the end: 5 are left, "1" and "3" among them
    blocked = bench.send((1, 16), (6, 100), output=1, at_s=0.205)  # hits "1", wants 7 more
    bench.run()
    # The decode took the three empty blocks, then the eldest cached one: "1", although the blocked prompt hoped for it.
    assert blocked.cached_tokens == 0


def test_a_pool_that_cannot_hold_one_full_context_is_refused() -> None:
    with pytest.raises(ValueError, match="one sequence of full length must fit"):
        Engine(replace(PROFILE, kv_blocks=511))


def test_prefill_and_decode_replicas_share_a_request() -> None:
    """A prefill replica stops after the first token; the decode replica goes on from the KV that comes with it."""
    bench = Bench()
    prompt = Prompt.of((Segment(1, 1000),))
    prefill, decode = Sequence(0, prompt, 7, 10, "prefill"), Sequence(1, prompt, 7, 10, "decode")
    bench.engine.submit(prefill, 0.0)
    bench.run()
    assert (steps(prefill.ended_s), prefill.generated, prefill.prefilled_tokens) == (2, 1, 1000)
    other = Bench()
    other.engine.submit(decode, 0.0, 0.5)
    other.run()
    assert decode.first_token_s == pytest.approx(0.5 + STEP_S)
    assert decode.ended_s == pytest.approx(0.5 + 10 * STEP_S)
    assert decode.prefilled_tokens == 1
