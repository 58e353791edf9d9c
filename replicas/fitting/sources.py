"""The calibration folders that can be fitted: which files, which engine limits, and facts of their README. It fits nothing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicas.fitting.measurements import Calibration, read_calibration
from replicas.profile import EngineProfile, StepTime

_UNFITTED = StepTime(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, graph_tokens=512)  # vLLM's largest captured size by default


@dataclass(frozen=True, slots=True)
class Source:
    """`profile` has the limits, how the engine schedules, and no fitted number yet; `runs` are Poisson runs.

    `saturated_rps` is the measured throughput at 512 in / 128 out with 256 running. `spread` is what identical repeats of a run
    show, relative, by metric and quantile (`ttft_p50` …): a prediction cannot be asked to be better. `metrics`: run → the file
    with the engine's own gauges.
    """

    profile: EngineProfile
    prefill: tuple[str, ...]
    decode: str
    batches: str
    runs: tuple[str, ...]
    metrics: dict[str, str]
    saturated_rps: float
    spread: dict[str, float]
    facts: dict[str, Any]


_VLLM = Source(
    profile=EngineProfile(
        name="h100-vllm-llama8b",
        engine="vllm",
        engine_version="0.26.0",
        gpu="NVIDIA H100 80GB",
        model="Llama-3-8B shape (hidden 4096, 32 layers, 8 KV heads), bf16, dummy weights",
        step=_UNFITTED,
        block_tokens=16,
        kv_blocks=462_944 // 16,
        max_running=256,
        max_batched_tokens=8192,
        context_tokens=131_072,
        frontend_s=0.0,
        cancel_lag_s=0.05,
        measured_context_tokens=8192,
        steps_ahead=1,
    ),
    prefill=("a_prefill.csv", "c_prefix.csv"),
    decode="b_decode_table.csv",
    batches="b_decode.csv",
    runs=("d_poisson_4", "d_poisson_16", "cap_34"),
    metrics={"cap_34": "cap_34_metrics.csv"},
    saturated_rps=51.0,
    spread={"ttft_p50": 0.20, "tpot_p50": 0.09, "tpot_p90": 0.09},
    facts={
        "measured": "one NVIDIA H100 80GB, vLLM 0.26.0, 2026-11-24, dummy weights, output lengths forced",
        "engine": (
            "CUDA graphs, FlashAttention 3, max-num-seqs 256, 8192 batched tokens, prefix cache on, 462,944 KV tokens, block 16"
        ),
        "measured_range": (
            "prompts of 16 to 8192 tokens alone; decode batches of 1 to 192 at contexts 512 and 2048; all beyond, up to "
            "context_tokens, is extrapolated"
        ),
        "saturation": "about 51 requests a second (512 in / 128 out) complete at 256 running",
        "noise": {"ttft_p50": 0.20, "tpot": 0.09, "what": "relative spread between two runs with identical arrivals"},
        "host": (
            "A prefill step above 512 tokens in all runs without CUDA graphs, and the host launches it for longer than the GPU "
            "computes; results wait meanwhile. TTFT and TPOT of each run fitted alone ask for 33 ms (d_poisson_4), 33 ms "
            "(d_poisson_16) and at most 21 ms (cap_34); the number of distinct prefill steps, which does not depend on how fast "
            "decode steps are, for 28 and 26 ms (the last two). Lone prefills of 1,024 tokens took 48.7 ms at first and 36.9 ms "
            "a second later: hosts vary. One number serves all three runs."
        ),
        "cancel_lag": (
            "Measured: an abort frees a waiting request promptly and an idle engine aborts within 0.1 s, yet of 531 attempts "
            "that timed out in an overload about 499 (94%) had been prefilled. An abort is read between steps, when the next "
            "step is already scheduled: one saturated step (2 / 51 s = 39 ms) and about 10 ms for the disconnect to reach the "
            "engine; the engine model adds what is left of the running step. With it, 93% of the timed-out are prefilled at 64 "
            "requests a second (512 in / 128 out, 5 s timeout); with no lag 83%, with 0.1 s 95%."
        ),
    },
)

SOURCES = {"h100_vllm_0.26_llama8b": _VLLM}


def source_of(folder: Path) -> Source:
    """How a calibration folder is fitted, by its name; raises ValueError for an unknown one."""
    name = folder.resolve().name
    if name not in SOURCES:
        raise ValueError(f"folder {name!r} is not a known calibration; allowed: {', '.join(SOURCES)}")
    return SOURCES[name]


def read_source(folder: Path, source: Source) -> Calibration:
    """All its files; raises ValueError naming what is missing or cannot be read."""
    return read_calibration(folder, source.prefill, source.decode, source.batches, tuple(f"{run}.csv" for run in source.runs))
