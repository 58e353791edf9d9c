"""The calibration folders that can be fitted: which files, which engine limits, and facts of their README. It fits nothing."""

from dataclasses import dataclass
from typing import Any

from replicas.profile import EngineProfile, StepTime

_UNFITTED = StepTime(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Source:
    """`profile` has the limits and no fitted number yet; `fit_run` gives the front-end delay, `check_runs` only check.

    `saturated_rps` is the measured throughput at 512 in / 128 out with 256 running.
    """

    profile: EngineProfile
    prefill: tuple[str, ...]
    decode: str
    batches: str
    fit_run: str
    check_runs: tuple[str, ...]
    saturated_rps: float
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
    ),
    prefill=("a_prefill.csv", "c_prefix.csv"),
    decode="b_decode_table.csv",
    batches="b_decode.csv",
    fit_run="d_poisson_16",
    check_runs=("d_poisson_4", "cap_34"),
    saturated_rps=51.0,
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
        "not_captured": (
            "Steps with one 512-token prefill took about 29 ms in d_poisson_16 and 24 ms in cap_34, whose batch was three times "
            "as large (regression of answer times on the prefills they met): the former's host was slower, and one profile "
            "cannot match both. TTFT's upper tail at 4 and 16 requests a second comes from delays outside the engine (request "
            "by request, correlation with the model 0.3)."
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
