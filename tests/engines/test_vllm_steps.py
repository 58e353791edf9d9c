"""vLLM's own scheduler and ours, side by side: every step of every scenario must be the same."""

from dataclasses import replace

import pytest

from tests.engines.conftest import Stepper
from tests.engines.scenario import Job, ModelRun, Scenario, drawn

pytestmark = pytest.mark.engine


def unique(n: int, prompt: int, output: int, after_steps: int = 0, priority: int = 0) -> Job:
    """Job number n with a prompt that nobody shares."""
    return Job(((n + 1, prompt),), 1000 + n, output, after_steps, priority=priority)


NAMED = {
    "chunks share the token budget": Scenario((unique(0, 700, 3), unique(1, 300, 3), unique(2, 100, 40))),
    "decodes take their token first": Scenario((unique(0, 16, 60), unique(1, 900, 2, after_steps=5)), max_batched_tokens=64),
    "a place frees when a sequence leaves": Scenario(tuple(unique(n, 40, 5 + n) for n in range(7)), max_running=2),
    "the newest is preempted": Scenario((unique(0, 48, 40), unique(1, 48, 40)), kv_blocks=8, context_tokens=128),
    "several are preempted, the older one comes back first": Scenario(
        tuple(unique(n, 40, 80) for n in range(4)), kv_blocks=14, context_tokens=128
    ),
    "a prompt that does not fit waits whole": Scenario(
        (unique(0, 64, 60), unique(1, 100, 8, after_steps=3)), kv_blocks=10, context_tokens=160, max_batched_tokens=32
    ),
    "repeated, half shared, next turn": Scenario(
        (
            Job(((1, 130),), 1000, 1),
            Job(((1, 130),), 1001, 20, 1, after_job=0),
            Job(((1, 130), (2, 70)), 1002, 33, 1, after_job=1),
            Job(((1, 130), (2, 70), (1002, 33), (3, 9)), 1003, 4, 1, after_job=2),
        ),
        block_tokens=32,
    ),
}


@pytest.mark.parametrize("name", list(NAMED))
def test_a_named_scenario(name: str, vllm_steps: Stepper) -> None:
    assert ModelRun(NAMED[name]).run().difference(vllm_steps(NAMED[name])) == ""


@pytest.mark.parametrize("whole", [False, True], ids=["first chunk must fit", "whole prompt must fit"])
@pytest.mark.parametrize("cancels", [False, True], ids=["patient", "with hang-ups"])
def test_random_scenarios(cancels: bool, whole: bool, vllm_steps: Stepper) -> None:
    """Hundreds of small pools, many of them too small: no step may differ."""
    assert compared([replace(drawn(seed, cancels), whole_prompt_must_fit=whole) for seed in range(150)], vllm_steps) == {}


@pytest.mark.parametrize("whole", [False, True], ids=["first chunk must fit", "whole prompt must fit"])
@pytest.mark.parametrize("cancels", [False, True], ids=["patient", "with hang-ups"])
def test_random_scenarios_by_priority(cancels: bool, whole: bool, vllm_steps: Stepper) -> None:
    """As above, where the one preempted may stand anywhere in the batch; if it lacked the block itself, its step ends there."""
    drawn_ones = [drawn(seed, cancels, priorities=True) for seed in range(150)]
    assert compared([replace(s, whole_prompt_must_fit=whole) for s in drawn_ones], vllm_steps) == {}


def test_random_scenarios_with_a_watermark(vllm_steps: Stepper) -> None:
    assert compared([replace(drawn(seed, cancels=True), watermark=0.15) for seed in range(150)], vllm_steps) == {}


def test_random_scenarios_with_a_longest_chunk(vllm_steps: Stepper) -> None:
    drawn_ones = [drawn(seed) for seed in range(50)]
    scenarios = [replace(s, whole_prompt_must_fit=False, long_prefill_token_threshold=s.block_tokens // 2) for s in drawn_ones]
    assert compared(scenarios, vllm_steps) == {}


@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("prompt", [128, 129, 130])
def test_a_repeated_prompt_of_whole_blocks_holds_one_block_more_and_nothing_else_differs(
    prompt: int, repeats: int, vllm_steps: Stepper
) -> None:
    """Its last block is recomputed into a new one. vLLM lets the old one go to the evictable ones; the model, which holds the
    blocks of a segment together, keeps it as long as somebody uses the segment: one block in all, however many repeat it."""
    first = Job(((1, prompt),), 1000, 1)
    again = tuple(Job(((1, prompt),), 1001 + n, 20, 1 + 3 * n, after_job=0) for n in range(repeats))
    scenario = Scenario((first, *again), block_tokens=32)
    ours, theirs = ModelRun(scenario).run(), vllm_steps(scenario)
    more = [a - b for a, b in zip(ours.used_blocks, theirs.used_blocks, strict=True)]
    assert set(more[1:]) == {1 if prompt % 32 == 0 else 0}
    assert replace(ours, used_blocks=theirs.used_blocks).difference(theirs) == ""


def test_the_comparison_can_tell_two_schedulers_apart(vllm_steps: Stepper) -> None:
    """vLLM with and without its switch `scheduler_reserve_full_isl`."""
    scenario = NAMED["a prompt that does not fit waits whole"]
    assert vllm_steps(scenario).difference(vllm_steps(replace(scenario, whole_prompt_must_fit=False))) != ""


def compared(scenarios: list[Scenario], vllm_steps: Stepper) -> dict[int, str]:
    """What differs, by scenario; some of several must have preempted, or the comparison says little."""
    differences, preempting = {}, 0
    for number, scenario in enumerate(scenarios):
        theirs = vllm_steps(scenario)
        preempting += theirs.preemptions[-1] > 0
        if difference := ModelRun(scenario).run().difference(theirs):
            differences[number] = difference
    assert preempting > len(scenarios) // 30 or len(scenarios) == 1
    return differences
