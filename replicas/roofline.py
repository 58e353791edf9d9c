"""An `EngineProfile` for a card that nobody has measured, from data sheets and a model's shape. It knows no measurement but its
efficiencies, which are those of one measured engine (see `EFFICIENCY`); elsewhere they are a guess, and the profile says so.

After the roofline model (Williams, Waterman, Patterson 2009), split into the step-time formula's terms: reading weights and KV
is bound by memory, prefill and attention by arithmetic. Tensor parallelism divides all of them by the cards and adds two
all-reduces a layer (ring: 2(n−1)/n of the data over each link, and a latency).
"""

from typing import Any, TypeVar

from replicas.data_sheets import GPUS, MODELS, Gpu, ModelShape
from replicas.profile import EngineProfile, StepTime

EFFICIENCY = {"weights": 0.72, "kv": 0.965, "prefill": 0.635, "attention": 0.98, "decode": 0.73, "overlap": 0.42}
"""Shares of the peak that vLLM 0.26 reached on an H100 with Llama-3-8B: the measured coefficients against this module's. `decode`
is of the arithmetic of one more sequence, much of which hides behind the reading of weights: the share that shows. `overlap`: the
share of that reading that hides behind a prefill."""

_LAUNCH = {"eager_launch_s": 23e-3, "prefill_floor_s": 10.5e-3, "host_s": 1.8e-3}  # as measured there
_HOST = {"host_sequence_s": 2.2e-5, "launch_spread": 0.3, "frontend_s": 4.9e-3, "frontend_chunk_s": 1e-4}
_HOST_LAYERS = 32  # of that model: launching takes as long as there are kernels
_ALL_REDUCE_LATENCY_S = 10e-6
_MEMORY_SHARE, _ACTIVATION_BYTES = 0.92, 1.9e9  # vLLM's default share; what it kept for activations there
_BLOCK_TOKENS = 16
_BF16_BYTES = 2
_MEASURED = "h100-vllm-llama8b"

_T = TypeVar("_T")


def roofline_profile(model: str, gpu: str, tp: int = 1) -> EngineProfile:
    """vLLM with its default limits; raises ValueError for an unknown name, or where the model does not fit."""
    shape, card = _named(MODELS, "model", model), _named(GPUS, "GPU", gpu)
    if tp < 1 or shape.heads % tp:
        raise ValueError(f"tensor parallelism {tp}: must divide the {shape.heads} heads of {shape.label}")
    kv_tokens = _kv_tokens(shape, card, tp)
    context_tokens = min(shape.context_tokens, kv_tokens)
    launch = shape.layers / _HOST_LAYERS
    return EngineProfile(
        name=f"roofline-{gpu}{f'x{tp}' if tp > 1 else ''}-{model}",
        engine="vllm",
        engine_version="roofline",
        gpu=card.label + (f" x {tp}" if tp > 1 else ""),
        model=f"{shape.label} shape, bf16",
        step=step_time(shape, card, tp, launch),
        block_tokens=_BLOCK_TOKENS,
        kv_blocks=kv_tokens // _BLOCK_TOKENS,
        max_running=256,
        max_batched_tokens=8192,
        context_tokens=context_tokens - context_tokens % _BLOCK_TOKENS,
        frontend_s=_HOST["frontend_s"],
        frontend_chunk_s=_HOST["frontend_chunk_s"],
        cancel_lag_s=0.05,
        steps_ahead=1,
        provenance=_provenance(shape, card, tp),
        fit_error={f"against {_MEASURED}": errors_against(EngineProfile.load(_MEASURED))},
    )


def step_time(shape: ModelShape, card: Gpu, tp: int, launch: float = 1.0) -> StepTime:
    """The formula's coefficients; `launch` scales the host's launch times."""
    all_reduce_s, token_s = _all_reduce(shape, card, tp)
    flops_token = 2 * shape.layer_parameters / tp
    flops_pair = 4 * shape.layers * shape.hidden / tp  # QK^T and its product with V, of one query token and one key
    weights_s = shape.weight_bytes / tp / (card.memory_bytes_s * EFFICIENCY["weights"])
    return StepTime(
        base_s=weights_s + all_reduce_s,
        prefill_base_s=-EFFICIENCY["overlap"] * weights_s,
        prefill_s=flops_token / (card.flops * EFFICIENCY["prefill"]) + token_s,
        attention_s=flops_pair / (card.flops * EFFICIENCY["attention"]),
        sequence_s=flops_token / card.flops * EFFICIENCY["decode"] + token_s,
        kv_s=shape.kv_bytes_per_token / min(tp, shape.kv_heads) / (card.memory_bytes_s * EFFICIENCY["kv"]),
        graph_tokens=512,
        host_sequence_s=_HOST["host_sequence_s"],
        launch_spread=_HOST["launch_spread"],
        eager_launch_s=_LAUNCH["eager_launch_s"] * launch,
        prefill_floor_s=_LAUNCH["prefill_floor_s"] * launch,
        host_s=_LAUNCH["host_s"] * launch,
    )


def errors_against(measured: EngineProfile, model: str = "llama-3.1-8b", gpu: str = "h100-sxm") -> dict[str, float]:
    """Relative error of each coefficient that the data sheets give, and of the KV pool, against a measured profile."""
    shape, card = _named(MODELS, "model", model), _named(GPUS, "GPU", gpu)
    step = step_time(shape, card, 1)
    names = ("base_s", "prefill_s", "attention_s", "sequence_s", "kv_s")
    errors = {name: getattr(step, name) / getattr(measured.step, name) - 1 for name in names}
    return errors | {"kv_tokens": _kv_tokens(shape, card, 1) / (measured.kv_blocks * measured.block_tokens) - 1}


def _all_reduce(shape: ModelShape, card: Gpu, tp: int) -> tuple[float, float]:
    """Seconds a step, and seconds a token, of two all-reduces in each layer over `tp` cards."""
    if tp == 1:
        return 0.0, 0.0
    reduces = 2 * shape.layers
    sent_bytes = 2 * (tp - 1) / tp * shape.hidden * _BF16_BYTES
    return reduces * _ALL_REDUCE_LATENCY_S, reduces * sent_bytes / card.link_bytes_s


def _kv_tokens(shape: ModelShape, card: Gpu, tp: int) -> int:
    """What vLLM's share of memory leaves beside weights and activations."""
    left = card.memory_bytes * _MEMORY_SHARE - shape.weight_bytes / tp - _ACTIVATION_BYTES
    tokens = int(left / (shape.kv_bytes_per_token / min(tp, shape.kv_heads)))
    if tokens < _BLOCK_TOKENS * 64:
        need = f"{shape.weight_bytes / 1e9:.1f} GB of weights over {tp} card(s) of {card.memory_bytes / 1e9:.0f} GB"
        raise ValueError(f"{shape.label} does not fit {card.label}: {need}; raise tensor parallelism")
    return tokens


def _named(known: dict[str, _T], what: str, name: str) -> _T:
    if name not in known:
        raise ValueError(f"{what} {name!r} is not known; allowed: {', '.join(known)}")
    return known[name]


def _provenance(shape: ModelShape, card: Gpu, tp: int) -> dict[str, Any]:
    return {
        "roofline": "from data sheets and the model's shape; not measured",
        "peaks": {
            "flops_bf16_dense": card.flops,
            "memory_bytes_s": card.memory_bytes_s,
            "memory_bytes": card.memory_bytes,
            "link_bytes_s": card.link_bytes_s,
        },
        "tensor_parallel": tp,
        "efficiency": EFFICIENCY,
        "efficiency_source": f"{_MEASURED}; on another card, engine or model size a guess",
        "host": {**_LAUNCH, **_HOST, "layers": _HOST_LAYERS, "source": f"{_MEASURED}, launch times scaled by layers"},
    }
