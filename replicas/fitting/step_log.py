"""What a log of every step of real engines showed of their hosts, which no client can see. It knows no run and fits nothing.

One NVIDIA H100 80GB HBM3 with 16 cores, 2026-11-24, Llama-3-8B shape, vLLM 0.26.0 and SGLang 0.5.15: 24,000 and 19,000 steps
under sweeps, 4 to 64 requests a second (512 in / 128 out) and mixed lengths; times of scheduling, launching, updating, the front
end and, by CUDA events, the GPU. Hosts differ: identical arrivals on three of them gave TPOT medians 15% to 17% apart at 16 and
34 requests a second, as the launch of a step outside CUDA graphs took 20 to 29 ms on average.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from replicas.fitting.measurements import DecodeRows
from replicas.profile import EngineProfile, StepTime

STEP: dict[str, dict[str, Any]] = {
    "vllm": {
        "host_s": 1.8e-3,
        "host_sequence_s": 2.2e-5,
        "eager_launch_s": 23e-3,
        "launch_spread": 0.3,
    },
    "sglang": {
        "host_s": 1.5e-3,
        "host_sequence_s": 3.3e-5,
        "eager_launch_s": 26.6e-3,
        "launch_spread": 0.3,
    },
}
DECODE_MS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "vllm": (
        (4.0, 666, 6.611), (12.5, 916, 7.187), (18.4, 788, 7.361), (25.1, 774, 7.578), (37.4, 618, 7.911), (60.3, 593, 8.680),
        (88.6, 595, 9.715), (119.4, 598, 10.763), (166.4, 599, 12.415), (225.8, 584, 14.699),
    ),
    "sglang": (
        (1.6, 577, 6.544), (4.0, 577, 6.627), (7.0, 577, 6.731), (12.8, 577, 6.982), (18.3, 577, 7.251), (26.2, 577, 7.495),
        (37.2, 577, 7.957), (60.2, 577, 8.807), (84.0, 577, 9.815), (116.5, 577, 11.146),
    ),
}  # fmt: skip
"""GPU milliseconds of pure decode steps with graphs in open-loop traffic: (sequences, cached tokens of each, ms), on average of
100 to 3,400 steps each. Batches between the captured sizes are padded, which sweeps of captured sizes do not show."""

PREFILL = {"vllm": (-2.7e-3, 2.225e-5), "sglang": (-5.6e-3, 2.43e-5)}
"""Seconds that the prefills of a step add to its decodes where the GPU is what it waits for: once (weights are read meanwhile),
and a token; over 1,300 and 2,200 steps with 512 to 4,096 tokens of prompts of 512."""

FRONT_END: dict[str, dict[str, Any]] = {
    "vllm": {"frontend_s": 4.9e-3, "frontend_chunk_s": 1.0e-4},
    "sglang": {"frontend_s": 5.6e-3, "frontend_chunk_s": 2.0e-5},
}
FACTS: dict[str, Any] = {
    "where": "one NVIDIA H100 80GB HBM3, 16 cores, 2026-11-24, vLLM 0.26.0 and SGLang 0.5.15, a log of every step",
    "vllm": (
        "A step above 512 tokens with a prefill runs without CUDA graphs; its launch took 24.6 ms on average over 3,300 steps "
        "(first to ninth decile 16 to 31 ms, drifting over seconds), of which 1.6 ms are in host_s. Scheduling, updating and "
        "launching a graph delay the step after such a launch by 1.8 ms + 22 us a sequence. Requests took 3.2 ms into the engine "
        "and 1.9 ms out; each chunk 0.08 to 0.13 ms"
    ),
    "sglang": (
        "Decode batches above the largest graph (128) took 27 ms (19 to 35) to launch and 4 to 9 ms more in a row; prefills "
        "with graphs 11 ms. Requests took 2.5 ms into the scheduler and 1.4 ms out, results of a prefill 1.7 ms"
    ),
}


def logged_decode(engine: str) -> DecodeRows:
    batch, context, milliseconds = np.array(DECODE_MS[engine], dtype=np.float64).T
    return DecodeRows(batch, context, milliseconds / 1e3, ())


def with_logged_host(profile: EngineProfile) -> EngineProfile:
    """`profile` with the host and front end of its engine, as logged."""
    step = replace(profile.step, **STEP[profile.engine])
    return replace(profile, step=step, **FRONT_END[profile.engine])


def unfitted(graph_tokens: int, graph_sequences: int = 0) -> StepTime:
    """No number fitted yet; the largest captured steps: tokens where they hold a prefill, else sequences (0: all are)."""
    return StepTime(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, graph_tokens=graph_tokens, graph_sequences=graph_sequences)
