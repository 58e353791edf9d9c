"""What each scheduler flavour is documented to do, rule by rule, on an engine whose every step takes exactly 10 ms."""

from dataclasses import replace
from typing import Any

import pytest

from replicas.engine import Engine
from replicas.sequence import Sequence, State
from tests.replicas.test_engine import PROFILE, STEP_S, Bench, steps
from workloads.request import Prompt, Segment

FLAVOURS = ("vllm", "sglang", "orca", "sarathi")


class Pool(Bench):
    """A bench for sequences that ask for more than they get, or have a priority."""

    def ask(self, *segments: tuple[int, int], output: int, at_s: float = 0.0, **more: Any) -> Sequence:
        self.run(at_s)
        number = len(self.sequences)
        sequence = Sequence(number, Prompt.of(tuple(Segment(*s) for s in segments)), -1 - number, output, **more)
        self.sequences.append(sequence)
        self.status = self.engine.submit(sequence, at_s)
        return sequence


def sglang(block_tokens: int = 1, kv_blocks: int = 10_240, **more: Any) -> Pool:
    settings = {k: more.pop(k) for k in list(more) if k not in PROFILE.to_json()}
    return Pool(scheduler="sglang", scheduler_settings=settings, block_tokens=block_tokens, kv_blocks=kv_blocks, **more)


# What a long prompt does to a sequence that decodes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "first", "gap"),
    [
        ("vllm", 15, 1),  # 6 steps begun before it came, then 4,096 tokens at 511 a step: the decode takes one of each budget
        ("sarathi", 15, 1),  # the same: a budget of 512 for both
        ("orca", 7, 1),  # the whole prompt in one iteration, which the decode shares (and in life waits for: it is long)
        ("sglang", 14, 9),  # 8 chunks of 512 while the decode stands still
    ],
)
def test_a_long_prompt_beside_a_decode(scheduler: str, first: int, gap: int) -> None:
    settings = {"chunked_prefill_size": 512} if scheduler == "sglang" else {}
    bench = Pool(scheduler=scheduler, scheduler_settings=settings)
    decoding = bench.ask((1, 16), output=40)
    long = bench.ask((2, 4096), output=1, at_s=0.055)
    bench.run()
    assert steps(long.first_token_s) == first
    assert decoding.max_gap_s == pytest.approx(gap * STEP_S)
    assert steps(decoding.ended_s) == 40 + gap - 1


@pytest.mark.parametrize(
    ("scheduler", "cached"),
    [("vllm", 288), ("sglang", 299), ("orca", 0), ("sarathi", 0)],  # vLLM: whole blocks; SGLang: all but the last token
)
def test_a_repeated_prompt_of_300_tokens(scheduler: str, cached: int) -> None:
    page = 1 if scheduler == "sglang" else 16
    bench = Pool(scheduler=scheduler, block_tokens=page, kv_blocks=10_240 // page)
    bench.ask((1, 300), output=1)
    second = bench.ask((1, 300), output=1, at_s=1.0)
    bench.run()
    assert second.cached_tokens == cached
    assert second.prefilled_tokens == 300 - cached


@pytest.mark.parametrize("scheduler", FLAVOURS)
def test_first_come_first_served(scheduler: str) -> None:
    bench = Pool(scheduler=scheduler, max_running=1)
    sequences = [bench.ask((n, tokens), output=3) for n, tokens in enumerate((500, 20, 300, 1), 1)]
    bench.run()
    firsts = [s.first_token_s or 0.0 for s in sequences]
    assert firsts == sorted(firsts)
    assert [s.state for s in sequences] == [State.FINISHED] * 4


# vLLM ----------------------------------------------------------------------------------------------------------------------


def test_vllm_serves_the_lowest_priority_value_first_and_equals_by_arrival() -> None:
    bench = Pool(scheduler_settings={"policy": "priority"}, max_running=1)
    bench.ask((9, 16), output=5)
    late = [bench.ask((n, 16), output=1, at_s=0.001 * (n + 1), priority=p) for n, p in enumerate((3, 1, 2, 1))]
    bench.run()
    order = sorted(late, key=lambda s: s.first_token_s or 0.0)
    assert [(s.priority, s.try_id) for s in order] == [(1, 2), (1, 4), (2, 3), (3, 1)]


@pytest.mark.parametrize(("policy", "preempted"), [("fcfs", 1), ("priority", 0)])
def test_vllm_preempts_the_newest_or_the_least_important(policy: str, preempted: int) -> None:
    bench = Pool(scheduler_settings={"policy": policy}, kv_blocks=8, context_tokens=128)
    pair = [bench.ask((1, 48), output=40, priority=1), bench.ask((2, 48), output=40, priority=0)]
    bench.run()
    assert bench.engine.counters.preemptions == 1
    assert steps(pair[1 - preempted].ended_s) == 40
    assert steps(pair[preempted].ended_s) > 40


@pytest.mark.parametrize(
    ("threshold", "long_first", "short_first"),
    [
        (0, 2, 2),  # 512 | 388 of the long prompt and the whole short one
        (400, 2, 1),  # 400 of the long prompt and the whole short one | 500: it is alone now
        (100, 3, 1),  # 100 and the whole short one | 512 | 288
    ],
)
def test_vllms_long_prefill_threshold_lets_short_prompts_pass(threshold: int, long_first: int, short_first: int) -> None:
    bench = Pool(scheduler_settings={"long_prefill_token_threshold": threshold})
    long, short = bench.ask((1, 900), output=1), bench.ask((2, 100), output=1)
    bench.run()
    assert (steps(long.first_token_s), steps(short.first_token_s)) == (long_first, short_first)


@pytest.mark.parametrize(("whole", "running"), [(False, 2), (True, 1)])
def test_vllm_admits_a_prompt_whose_first_chunk_fits_or_only_one_that_fits_whole(whole: bool, running: int) -> None:
    bench = Pool(scheduler_settings={"whole_prompt_must_fit": whole}, kv_blocks=128, context_tokens=2048)
    bench.ask((1, 1000), output=50)  # 63 blocks of 128
    bench.ask((2, 1500), output=1, at_s=0.025)  # 94, its first chunk 32
    bench.run(0.035)
    assert bench.engine.running == running
    bench.run()
    assert [s.state for s in bench.sequences] == [State.FINISHED] * 2


# Orca ----------------------------------------------------------------------------------------------------------------------


def test_orca_reserves_prompt_and_max_tokens_so_what_is_asked_for_blocks_others() -> None:
    bench = Pool(scheduler="orca", kv_blocks=512)
    greedy = bench.ask((1, 16), output=10, max_tokens=8000)  # 501 of 512 blocks, for 26 tokens
    behind = bench.ask((2, 200), output=1)  # 13 blocks
    small = bench.ask((3, 16), output=1)  # would fit, but the head of the queue does not
    bench.run(0.05)
    assert (bench.engine.running, bench.engine.waiting) == (1, 2)
    bench.run()
    assert steps(greedy.ended_s) == 10
    assert (steps(behind.first_token_s), steps(small.first_token_s)) == (11, 11)
    assert bench.engine.counters.preemptions == 0


def test_orca_prefills_any_number_of_prompts_whole_in_one_iteration() -> None:
    bench = Pool(scheduler="orca")
    prompts = [bench.ask((n, 900), output=1) for n in range(3)]
    bench.run()
    assert [steps(s.first_token_s) for s in prompts] == [1, 1, 1]


# Sarathi-Serve -------------------------------------------------------------------------------------------------------------


def test_sarathi_leaves_the_watermark_free_at_admission() -> None:
    bench = Pool(scheduler="sarathi", kv_blocks=100, context_tokens=1024, scheduler_settings={"watermark": 0.1})
    bench.ask((1, 800), output=20)  # 50 blocks
    second = bench.ask((2, 641), output=1)  # 41: would leave 9 of the 10
    bench.run(0.1)
    assert (bench.engine.running, bench.engine.waiting) == (1, 1)
    bench.run()
    assert steps(second.first_token_s) == 21 + 2


@pytest.mark.parametrize(
    ("watermark", "preemptions", "computed_again"),
    [
        (0.1, 1, 82),  # 6 blocks are free again, and it needs 6: one must stay free, so it waits
        (0.0, 14, sum(range(82, 96))),  # it comes back in the very step that preempted it, and is preempted in the next
    ],
)
def test_sarathi_preempts_the_latest_when_no_block_is_free_even_if_none_is_needed(
    watermark: float, preemptions: int, computed_again: int
) -> None:
    settings = {"watermark": watermark}
    bench = Pool(scheduler="sarathi", kv_blocks=12, context_tokens=96, max_batched_tokens=512, scheduler_settings=settings)
    first = bench.ask((1, 80), output=16)  # 5 blocks, a sixth from its second token on
    latest = bench.ask((2, 80), output=16)  # the same: together they hold all 12
    bench.run(0.025)
    assert bench.engine.counters.preemptions == 1  # at the third step nobody needs a block, but none is free
    bench.run()
    assert steps(first.ended_s) == 16
    assert bench.engine.counters.preemptions == preemptions
    assert latest.prefilled_tokens == 80 + computed_again


def test_sarathis_chunk_is_what_the_decodes_leave() -> None:
    bench = Pool(scheduler="sarathi", max_batched_tokens=8, max_running=8)
    for n in range(4):
        bench.ask((n, 2), output=50)
    late = bench.ask((9, 12), output=1, at_s=0.015)
    bench.run()
    assert steps(late.first_token_s) == 2 + 3  # 12 tokens at 8 − 4 a step


# SGLang --------------------------------------------------------------------------------------------------------------------


def test_sglang_prefills_before_it_decodes() -> None:
    bench = sglang()
    early = bench.ask((1, 10), output=20)
    for n in range(3):
        bench.ask((2 + n, 10), output=1, at_s=0.025 + n * STEP_S)
    bench.run()
    assert early.max_gap_s == pytest.approx(4 * STEP_S)  # three prefills, one after another, then the decode
    assert steps(early.ended_s) == 20 + 3


def test_the_gap_of_a_newcomer_counts_from_its_own_first_token() -> None:
    bench = sglang()
    early = bench.ask((1, 10), output=20)
    first = bench.ask((2, 10), output=20, at_s=0.025)
    second = bench.ask((3, 10), output=20, at_s=0.035)
    bench.run()
    assert early.max_gap_s == pytest.approx(3 * STEP_S)
    assert first.max_gap_s == pytest.approx(2 * STEP_S)
    assert second.max_gap_s == pytest.approx(STEP_S)


@pytest.mark.parametrize(
    ("size", "most", "firsts"),
    [
        (0, 1000, [1, 1, 2]),  # 400 + 400, then 400 >= the 200 left
        (0, 300, [1, 2, 3]),  # a prompt longer than the limit goes alone
        (500, 16384, [1, 2, 3]),  # 400 + 100 | 300 + 200 | 200
        (8192, 16384, [1, 1, 1]),
    ],
)
def test_sglangs_prefill_batch_ends_at_its_limits(size: int, most: int, firsts: list[int]) -> None:
    bench = sglang(chunked_prefill_size=size, max_prefill_tokens=most)
    prompts = [bench.ask((n, 400), output=1) for n in range(3)]
    bench.run()
    assert [steps(s.first_token_s) for s in prompts] == firsts


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "status"),
    [(100, 8092, 200), (100, 8093, 400), (8192, 1, 400), (8191, 1, 400), (8190, 1, 400), (8189, 3, 200)],
)
def test_sglang_refuses_what_may_exceed_the_context(prompt: int, max_tokens: int, status: int) -> None:
    bench = sglang()
    bench.ask((1, prompt), output=1, max_tokens=max_tokens)
    assert bench.status == status


@pytest.mark.parametrize(
    ("ratio", "waits"),
    [
        (1.0, True),  # 600 + 300 are expected of the first: 100 of 1,000 are left
        (0.3, False),  # 90 of its 300: 310 are left for 200 + 100 and one
        (0.4, True),
    ],
)
def test_sglang_admits_by_what_running_requests_may_still_put_out(ratio: float, waits: bool) -> None:
    bench = sglang(kv_blocks=1000, context_tokens=999, init_new_token_ratio=ratio, min_new_token_ratio_factor=1.0)
    bench.ask((1, 600), output=50, max_tokens=300)
    second = bench.ask((2, 200), output=1, max_tokens=100, at_s=0.005)
    bench.run()
    # It came in the first prefill, so it is tried right after it; once refused, only a batch that has shrunk lets it try again:
    # the first ends with step 50, the decode that would see it finds nobody, and the second prefills at once.
    assert steps(second.first_token_s) == (51 if waits else 2)


def test_under_ignore_eos_sglang_expects_all_that_was_asked_for() -> None:
    bench = sglang(kv_blocks=1000, context_tokens=999, init_new_token_ratio=0.0, ignore_eos=True)
    bench.ask((1, 600), output=50, max_tokens=300)
    second = bench.ask((2, 200), output=1, max_tokens=100, at_s=0.005)
    bench.run()
    assert steps(second.first_token_s) == 51


def test_sglangs_ratio_falls_with_every_decode_step() -> None:
    bench = sglang(
        kv_blocks=1000,
        context_tokens=999,
        init_new_token_ratio=1.0,
        min_new_token_ratio_factor=0.1,
        new_token_ratio_decay_steps=9,
    )
    bench.ask((1, 600), output=290, max_tokens=300)
    late = bench.ask((2, 100), output=1, max_tokens=1, at_s=0.095)  # after 9 decodes only 29 of 290 are expected
    early = bench.ask((3, 100), output=1, max_tokens=1, at_s=0.5)
    bench.run()
    assert steps(late.first_token_s) == 11
    assert steps(early.first_token_s) == 51


def test_sglang_retracts_who_has_put_out_least_and_then_the_longest_prompt() -> None:
    bench = sglang(kv_blocks=300, context_tokens=200, init_new_token_ratio=0.0, clip_max_new_tokens=1, retract_decode_steps=1)
    oldest = bench.ask((1, 80), output=60)
    short = bench.ask((2, 60), output=60, at_s=0.105)
    long = bench.ask((3, 70), output=60, at_s=0.105)
    bench.run()
    # 210 tokens of prompts and 9 decoded: 300 are full 27 steps later, and `short` and `long` have put out as much.
    assert bench.engine.counters.preemptions == 1
    assert [s.prefilled_tokens for s in (oldest, short)] == [80, 60]
    assert long.prefilled_tokens > 70
    assert [s.generated for s in (oldest, short, long)] == [60, 60, 60]


def test_what_sglang_retracts_is_not_cached_but_its_prompt_is() -> None:
    bench = sglang(kv_blocks=220, context_tokens=200, init_new_token_ratio=0.0, clip_max_new_tokens=1, retract_decode_steps=0)
    bench.ask((1, 100), output=30)
    second = bench.ask((2, 100), output=30, at_s=0.005)
    bench.run()
    assert bench.engine.counters.preemptions == 1
    # Its prompt stays in the tree, but the first needs room, and a leaf goes whole: 100 tokens for the 11 that it lacks.
    assert second.prefilled_tokens == 100 + 111


@pytest.mark.parametrize(("policy", "served"), [("fcfs", [1, 2, 3]), ("lpm", [3, 1, 2])])
def test_sglang_serves_the_longest_cached_prefix_first_under_lpm(policy: str, served: list[int]) -> None:
    bench = sglang(policy=policy, max_running=1)
    bench.ask((1, 200), (2, 1), output=5)
    for n, at_s in ((4, 0.001), (5, 0.002)):
        bench.ask((n, 100), output=1, at_s=at_s)
    bench.ask((1, 200), (6, 5), output=1, at_s=0.003)
    bench.run()
    order = sorted(bench.sequences[1:], key=lambda s: s.first_token_s or 0.0)
    assert [s.try_id for s in order] == served


@pytest.mark.parametrize(("policy", "cached", "firsts"), [("fcfs", 0, [1, 1, 2]), ("lpm", 100, [1, 2, 1])])
def test_under_lpm_a_prefix_that_another_is_about_to_compute_is_waited_for(policy: str, cached: int, firsts: list[int]) -> None:
    bench = sglang(policy=policy, chunked_prefill_size=220)
    one, same, other = (bench.ask((content, 100), (n, 10), output=1) for n, content in enumerate((1, 1, 8), 20))
    bench.run()
    assert (one.cached_tokens, same.cached_tokens) == (0, cached)
    assert [steps(s.first_token_s) for s in (one, same, other)] == firsts


def test_sglang_does_not_share_what_is_computed_in_the_same_step() -> None:
    bench = sglang()
    pair = [bench.ask((1, 160), (n, 10), output=1) for n in (2, 3)]
    bench.run()
    assert [s.cached_tokens for s in pair] == [0, 0]
    assert bench.engine.cache.available == 10_240


def test_a_queue_longer_than_128_is_not_sorted() -> None:
    bench = sglang(policy="lpm", max_running=1)
    bench.ask((1, 200), output=2)
    for n in range(130):
        bench.ask((1000 + n, 10), output=1, at_s=0.005)
    cached = bench.ask((1, 200), (2, 5), output=1, at_s=0.006)
    bench.run()
    # 131 wait: the first three are served as they came, then the queue is short enough to be sorted.
    served_before = sum((s.first_token_s or 0.0) < (cached.first_token_s or 0.0) for s in bench.sequences[1:])
    assert served_before == 3


# Pools that a flavour cannot work with -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheduler", "kv_blocks", "said"),
    [
        ("sglang", 512, "kv_blocks 512 is less than one full context of 8192 tokens and one page of 16"),
        ("sarathi", 513, "kv_blocks 513 is less than the 512 of one full context, the watermark's 5 and one free block"),
    ],
)
def test_a_pool_that_could_block_for_ever_is_refused(scheduler: str, kv_blocks: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Engine(replace(PROFILE, scheduler=scheduler, kv_blocks=kv_blocks))
