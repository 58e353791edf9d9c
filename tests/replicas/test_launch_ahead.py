"""A step that is scheduled while the one before still runs: who may join it, how long it takes, when its tokens are told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replicas.engine import Engine
from replicas.front_end import FrontEnd
from replicas.jump import Jump
from replicas.profile import EngineProfile, StepTime
from replicas.sequence import Sequence
from tests.replicas.reference_launch import Asked, play
from workloads.request import Prompt, Segment

STEP = StepTime(
    base_s=6e-3, prefill_base_s=0.0, prefill_s=2e-5, attention_s=0.0, sequence_s=0.0, kv_s=0.0, prefill_floor_s=14e-3,
    eager_launch_s=28e-3, graph_tokens=512,
)  # fmt: skip


def ahead(step: StepTime = STEP) -> EngineProfile:
    changes = {"frontend_s": 0.0, "frontend_s_per_token": 0.0, "frontend_chunk_s": 0.0, "steps_ahead": 1}
    return replace(EngineProfile.load("h100-vllm-llama8b").with_changes(changes), step=step)


def one_after_another(step: StepTime) -> EngineProfile:
    """SGLang: prefills and decodes in steps of their own."""
    return replace(ahead(step), engine="sglang", scheduler="sglang", block_tokens=1, kv_blocks=300_000)


def answered(profile: EngineProfile, sent_s: list[float], outputs: list[int], prompt: int = 512) -> list[Sequence]:
    """Each sequence's own prompt, sent at its time, run to its end."""
    engine = Engine(profile)
    sequences = [Sequence(i, Prompt.of((Segment(i, prompt),)), -1 - i, output) for i, output in enumerate(outputs)]
    for sequence, at_s in zip(sequences, sent_s, strict=True):
        while engine.next_s < at_s:
            engine.on_wake(engine.next_s)
        assert engine.submit(sequence, at_s) == 200
    while engine.next_s < float("inf"):
        engine.on_wake(engine.next_s)
    return sequences


def first_ms(sequences: list[Sequence]) -> list[Any]:
    return [pytest.approx(round(1e3 * s.first_token_s, 6)) for s in sequences if s.first_token_s is not None]


@pytest.mark.parametrize(
    ("sent_ms", "outputs", "first"),
    [
        ([0.0], [20], [16.24]),  # 6 + 512 x 0.02 ms; launched in 14
        ([0.0, 1.0], [20, 20], [42.0, 42.0]),  # the 2nd's launch begins at 14 and takes 28: the 1st's token waits for it
        # decode steps end at 16.24 + 6n. 101 comes in the one that ends at 106.24: launched then, told 28 ms later
        ([0.0, 101.0], [40, 20], [16.24, 134.24]),
        # 120 comes during that launch: scheduled at its end, 134.24; told 28 ms later, and so is the one before
        ([0.0, 101.0, 120.0], [60, 20, 20], [16.24, 162.24, 162.24]),
    ],
)
def test_when_first_tokens_are_told(sent_ms: list[float], outputs: list[int], first: list[float]) -> None:
    assert first_ms(answered(ahead(), [ms / 1e3 for ms in sent_ms], outputs)) == first


def test_a_prompt_beside_decodes_within_the_graphs_is_launched_as_fast_as_alone() -> None:
    """256 + 1 tokens: 14 ms after the boundary at which it was scheduled, or when the GPU is done: 6 + 6 + 5.12."""
    late = answered(ahead(), [0.0, 0.101], [40, 20], prompt=256)[1]
    assert late.first_token_s is not None
    assert late.first_token_s - 0.101 == pytest.approx(0.006 + 0.006 + 0.00512, abs=0.006)


def test_without_scheduling_ahead_the_same_launch_is_a_floor_of_the_step() -> None:
    """101 comes in the step that ends at 106.24; its own then takes 28 ms."""
    profile = replace(ahead(), steps_ahead=0)
    assert first_ms(answered(profile, [0.0, 0.101], [40, 20])) == [16.24, 134.24]


def test_what_the_host_prepares_shows_only_after_a_launch_that_kept_it_busy() -> None:
    """Prepared in 2 ms: the first step ends at 2 + 16.24; a decode step is prepared while the one before runs. 101 comes in the
    one that ends at 102.24, from when on its own is prepared for 2 and launched for 28, to 132.24. The next is prepared for 2,
    when the results are told, and runs for 6."""
    pair = answered(ahead(replace(STEP, host_s=2e-3)), [0.0, 0.101], [17, 2])
    assert first_ms(pair) == [18.24, 134.24]
    assert [1e3 * (s.ended_s or 0.0) for s in pair] == pytest.approx([134.24, 140.24])


def test_a_host_slower_than_the_gpu_paces_decode_steps() -> None:
    """9 ms to prepare what the GPU does in 6: ten more tokens take 90."""
    step = replace(STEP, prefill_floor_s=0.0, host_s=9e-3)
    ended = [answered(ahead(step), [0.0], [tokens])[0].ended_s or 0.0 for tokens in (11, 21)]
    assert ended[1] - ended[0] == pytest.approx(10 * 9e-3)


@pytest.mark.parametrize(("sequences", "step_ms"), [(2, 6.0), (3, 31.0)])
def test_decode_batches_above_the_largest_graph_are_launched_kernel_by_kernel(sequences: int, step_ms: float) -> None:
    """3 ms to prepare and 28 to launch: 31 a step, in which the GPU is busy for 6."""
    step = replace(STEP, host_s=3e-3, graph_sequences=2)
    ended = [s.ended_s for s in answered(ahead(step), [0.0] * sequences, [64] * sequences)]
    longer = [s.ended_s for s in answered(ahead(step), [0.0] * sequences, [128] * sequences)]
    assert (longer[0] or 0.0) - (ended[0] or 0.0) == pytest.approx(64 * step_ms * 1e-3)


def test_a_launch_varies_around_its_mean_and_is_the_requests_own() -> None:
    """Alone in the engine, 600 tokens: launched in 28 ms ± 30%, the GPU needs 18."""
    step, sent = replace(STEP, launch_spread=0.3), [float(i) for i in range(300)]
    took = np.array([s.first_token_s for s in answered(ahead(step), sent, [1] * 300, 600)], dtype=float) - sent
    assert 0.7 * 28e-3 <= took.min() < 0.75 * 28e-3
    assert 1.25 * 28e-3 < took.max() <= 1.3 * 28e-3
    assert took.mean() == pytest.approx(28e-3, rel=0.03)
    again = [s.first_token_s for s in answered(ahead(step), sent, [1] * 300, 600)]
    assert again == (took + sent).tolist()


def test_sglang_prepares_a_second_prefill_in_a_row_only_when_the_first_is_over() -> None:
    """Two prompts 1 ms apart, 2 ms to prepare a step of 16.24 (6 + 512 x 0.02): 2 + 16.24, and as much again after it.
    The first's result waits until the second is launched."""
    step = replace(STEP, host_s=2e-3, prefill_floor_s=0.0, eager_launch_s=0.0)
    assert first_ms(answered(one_after_another(step), [0.0, 0.001], [1, 1])) == [20.24, 36.48]


def test_a_short_prefill_takes_no_less_than_the_step_without_it() -> None:
    """The weights are read anyway: 16 tokens beside a base of −2 ms hide in the 6 ms; 500 show."""
    step = replace(STEP, prefill_base_s=-2e-3, prefill_floor_s=0.0)
    assert step.seconds(16, 8.0, 0, 0) == 6e-3
    assert step.seconds(500, 250.0, 0, 0) == pytest.approx(6e-3 + 8e-3)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_loop_written_out(seed: int) -> None:
    """Poisson arrivals, prompts around the graphs' limit. A place on either side of one boundary moves a request by a step, so
    single requests may differ; half of them hardly do, and the means agree."""
    draw = np.random.default_rng(seed)
    sent = draw.exponential(1 / 10, 200).cumsum().tolist()
    outputs = draw.integers(1, 120, 200).tolist()
    step = replace(STEP, sequence_s=1e-5, kv_s=4e-8, attention_s=6e-10, prefill_sequence_s=8e-6, prefill_base_s=-2e-3)
    step = replace(step, host_s=1.8e-3, host_sequence_s=2e-5)
    asked = [Asked(at_s, 512, output) for at_s, output in zip(sent, outputs, strict=True)]
    play(asked, step)
    got = answered(ahead(step), sent, outputs)
    first = np.array([s.first_token_s for s in got], dtype=float) - [one.times_s[0] for one in asked]
    ended = np.array([s.ended_s for s in got], dtype=float) - [one.times_s[-1] for one in asked]
    assert np.median(np.abs(first)) < 1e-3
    assert abs(first.mean()) < 1.5e-3
    assert abs(ended.mean()) < 8e-3


@pytest.mark.parametrize(("at_s", "expected_s"), [(0.002, 0.006 + 0.005), (0.009, 0.005), (1.032, 0.006 + 0.005)])
def test_a_request_is_taken_in_between_bursts_of_chunks(at_s: float, expected_s: float) -> None:
    """8 streams x 1 ms after each step of 10 ms: who comes at 2 waits for 6, then 1 ms of work takes 5 (8 of 10 are taken)."""
    assert FrontEnd(1e-3).slowed_s(1e-3, 8, Jump(0.0, 200, 0.010, 0.0), at_s) == pytest.approx(expected_s)


def test_a_front_end_with_too_many_chunks_merges_them() -> None:
    """50 ms of chunks a step of 10 ms: a tenth of the time is left for requests."""
    assert FrontEnd(1e-3).slowed_s(1e-3, 50, Jump(0.0, 200, 0.010, 0.0), 0.0095) == pytest.approx(0.010)
