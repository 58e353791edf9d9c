"""A step that is scheduled while the one before still runs: who may join it, how long it takes, when its tokens are told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from replicas.engine import Engine
from replicas.profile import EngineProfile, StepTime
from replicas.sequence import Sequence
from tests.replicas.reference_launch import Asked, play
from workloads.request import Prompt, Segment

STEP = StepTime(
    base_s=6e-3, prefill_base_s=0.0, prefill_s=2e-5, attention_s=0.0, sequence_s=0.0, kv_s=0.0, prefill_floor_s=14e-3,
    eager_launch_s=28e-3, graph_tokens=512,
)  # fmt: skip


def ahead(step: StepTime = STEP) -> EngineProfile:
    changes = {"frontend_s": 0.0, "frontend_s_per_token": 0.0, "frontend_jitter_s": 0.0, "steps_ahead": 1}
    return replace(EngineProfile.load("h100-vllm-llama8b").with_changes(changes), step=step)


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


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_loop_written_out(seed: int) -> None:
    """Poisson arrivals, prompts around the graphs' limit. A place on either side of one boundary moves a request by a step, so
    single requests may differ; half of them hardly do, and the means agree."""
    draw = np.random.default_rng(seed)
    sent = draw.exponential(1 / 10, 200).cumsum().tolist()
    outputs = draw.integers(1, 120, 200).tolist()
    step = replace(STEP, sequence_s=1e-5, kv_s=4e-8, attention_s=6e-10, prefill_sequence_s=8e-6)
    asked = [Asked(at_s, 512, output) for at_s, output in zip(sent, outputs, strict=True)]
    play(asked, step)
    got = answered(ahead(step), sent, outputs)
    first = np.array([s.first_token_s for s in got], dtype=float) - [one.times_s[0] for one in asked]
    ended = np.array([s.ended_s for s in got], dtype=float) - [one.times_s[-1] for one in asked]
    assert np.median(np.abs(first)) < 1e-3
    assert abs(first.mean()) < 1.5e-3
    assert abs(ended.mean()) < 8e-3
