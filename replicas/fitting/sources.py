"""The calibration folders that can be fitted: which files, which engine limits, and facts of their README. It fits nothing."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from replicas.fitting.measurements import Calibration, other_runs, read_calibration
from replicas.fitting.step_log import unfitted, with_logged_host
from replicas.profile import EngineProfile

Repeats = dict[str, dict[str, tuple[float, ...]]]

_MODEL = "Llama-3-8B shape (hidden 4096, 32 layers, 8 KV heads), bf16, dummy weights"
_QUANTILES = ("ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90", "e2e_p50", "e2e_p90")


@dataclass(frozen=True, slots=True)
class Source:
    """`profile` has the limits, how the engine schedules, its host as a step log showed it, and no fitted number yet; `runs` are
    Poisson runs, `fitted_run` the one of them that is fitted (None: all are predicted).

    `saturated_rps` is the measured throughput at 512 in / 128 out with 256 running, where known. `noise` is by how much two runs
    with identical arrivals differ on one host, relative, by metric and quantile (`ttft_p50` …); `repeats` are the quantiles of
    further runs with a run's arrivals, on other hosts of the kind: a prediction cannot be asked to be better than either.
    `metrics`: run → the file with the engine's own gauges. `hosts`: beginnings of the names of runs that were measured on one
    host → that one of them whose launches tell what this host was like.
    """

    profile: EngineProfile
    prefill: tuple[str, ...]
    decode: str
    batches: str
    runs: tuple[str, ...]
    facts: dict[str, Any]
    noise: dict[str, float]
    fitted_run: str | None = None
    saturated_rps: float | None = None
    metrics: dict[str, str] = field(default_factory=dict)
    repeats: Repeats = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)

    def same_host_run(self, run: str) -> str | None:
        """The run that stands for the host on which `run` was measured, where that is known."""
        return next((fitted for prefix, fitted in self.hosts.items() if run.startswith(prefix)), None)


_NOISE = {"ttft_p50": 0.20, "tpot_p50": 0.09, "tpot_p90": 0.09}


def _twice(*columns: tuple[float, float]) -> dict[str, tuple[float, ...]]:
    """Milliseconds of two runs, in the order of `_QUANTILES`."""
    return {name: (a / 1e3, b / 1e3) for name, (a, b) in zip(_QUANTILES, columns, strict=True)}


_CANCEL_LAG = (
    "Measured: an abort frees a waiting request promptly and an idle engine aborts within 0.1 s, yet of 531 attempts "
    "that timed out in an overload about 499 (94%) had been prefilled. An abort is read between steps, when the next "
    "step is already scheduled: one saturated step (2 / 51 s = 39 ms) and about 10 ms for the disconnect to reach the "
    "engine; the engine model adds what is left of the running step. With it, 93% of the timed-out are prefilled at 64 "
    "requests a second (512 in / 128 out, 5 s timeout); with no lag 83%, with 0.1 s 95%."
)

_VLLM = Source(
    profile=with_logged_host(
        EngineProfile(
            name="h100-vllm-llama8b",
            engine="vllm",
            engine_version="0.26.0",
            gpu="NVIDIA H100 80GB",
            model=_MODEL,
            step=unfitted(graph_tokens=512),  # vLLM's largest captured size by default
            block_tokens=16,
            kv_blocks=462_944 // 16,
            max_running=256,
            max_batched_tokens=8192,
            context_tokens=131_072,
            frontend_s=0.0,
            cancel_lag_s=0.05,
            measured_context_tokens=8192,
            steps_ahead=1,
        )
    ),
    prefill=("a_prefill.csv", "c_prefix.csv"),
    decode="b_decode_table.csv",
    batches="b_decode.csv",
    runs=("d_poisson_4", "d_poisson_16", "cap_34"),
    metrics={"cap_34": "cap_34_metrics.csv"},
    saturated_rps=51.0,
    noise=_NOISE,
    repeats={
        "d_poisson_4": _twice((33.4, 36.9), (45.4, 44.5), (7.00, 7.02), (7.36, 7.51), (924, 924), (975, 997)),
        "d_poisson_16": _twice((42.6, 48.2), (65.5, 76.3), (9.02, 9.30), (9.97, 10.40), (1192, 1233), (1319, 1379)),
        "cap_34": _twice((77.2, 75.7), (107.2, 108.4), (16.26, 14.62), (20.33, 19.62), (2146, 1935), (2681, 2573)),
    },
    hosts={"d_poisson_": "d_poisson_16", "cap_": "cap_34"},
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
        "hosts": (
            "The runs met different hosts: alone, d_poisson_16 asks for eager launches of about 28 ms, cap_34 of 20 ms; the step "
            "log's host, used here, has 23 ms. No run was fitted"
        ),
        "cancel_lag": _CANCEL_LAG,
    },
)

_SGLANG = Source(
    profile=with_logged_host(
        EngineProfile(
            name="h100-sglang-llama8b",
            engine="sglang",
            engine_version="0.5.15.post1",
            gpu="NVIDIA H100 80GB",
            model=_MODEL,
            step=unfitted(graph_tokens=1, graph_sequences=128),
            block_tokens=1,
            kv_blocks=300_000,
            max_running=256,
            max_batched_tokens=8192,
            context_tokens=9216,
            frontend_s=0.0,
            cancel_lag_s=0.45,
            measured_context_tokens=8192,
            steps_ahead=1,
            scheduler="sglang",
        )
    ),
    prefill=("sgl_8b_prefill.csv", "sgl_8b_prefix.csv"),
    decode="sgl_8b_decode_table.csv",
    batches="sgl_8b_decode.csv",
    runs=("sgl_poisson_16",),
    fitted_run="sgl_poisson_16",
    noise=_NOISE,
    facts={
        "measured": "one NVIDIA H100 80GB, SGLang 0.5.15.post1, 2026-11-24, dummy weights, output lengths forced",
        "engine": (
            "triton attention, decode graphs to 128 sequences, prefills without graphs and without mixed chunks, overlap "
            "scheduling, 300,000 KV tokens, page 1"
        ),
        "measured_range": "prompts of 512 to 8192 tokens alone; decode batches of 1 to 128 at context 512; 16 requests a second",
        "noise": {"ttft_p50": 0.20, "tpot": 0.09, "what": "of vLLM on such a host; not measured for SGLang"},
        "hosts": "The folder has one run, and it was fitted: no run is held out",
        "cancel_lag": "Measured on SGLang 0.5.23 on a CPU: a client that hangs up is aborted within 0.45 s",
    },
)

SOURCES = {"h100_vllm_0.26_llama8b": _VLLM, "h100_sglang_0.5.15_llama8b": _SGLANG}


def source_of(folder: Path) -> Source:
    """How a calibration folder is fitted, by its name; raises ValueError for an unknown one."""
    name = folder.resolve().name
    if name not in SOURCES:
        raise ValueError(f"folder {name!r} is not a known calibration; allowed: {', '.join(SOURCES)}")
    return SOURCES[name]


def read_source(folder: Path, source: Source) -> Calibration:
    """All its files, and further runs that it holds; raises ValueError naming what is missing or cannot be read."""
    runs = tuple(f"{run}.csv" for run in source.runs)
    more = other_runs(folder, (*source.prefill, source.decode, source.batches, *runs))
    return read_calibration(folder, source.prefill, source.decode, source.batches, (*runs, *more))
