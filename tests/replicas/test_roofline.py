"""The roofline's terms scale as the hardware does, its shapes have their published sizes, and it says what it is."""

from dataclasses import replace

import pytest

from replicas.data_sheets import GPUS, MODELS
from replicas.profile import EngineProfile
from replicas.roofline import errors_against, roofline_profile, step_time


@pytest.mark.parametrize(
    ("model", "billions", "kv_kib"),
    [
        ("llama-3-8b", 8.03, 128),  # 2 x 32 layers x 8 heads x 128 x 2 bytes
        ("llama-3-70b", 70.55, 320),
        ("qwen2.5-0.5b", 0.494, 12),
        ("qwen2.5-7b", 7.62, 56),
        ("mistral-7b", 7.25, 128),
    ],
)
def test_shapes_have_their_published_sizes(model: str, billions: float, kv_kib: float) -> None:
    assert MODELS[model].parameters / 1e9 == pytest.approx(billions, rel=2e-3)
    assert MODELS[model].kv_bytes_per_token / 1024 == kv_kib


def test_twice_the_bandwidth_halves_what_memory_bounds_and_nothing_else() -> None:
    card, shape = GPUS["l4"], MODELS["llama-3-8b"]
    slow, fast = step_time(shape, card, 1), step_time(shape, replace(card, memory_bytes_s=2 * card.memory_bytes_s), 1)
    assert (fast.base_s, fast.kv_s) == pytest.approx((slow.base_s / 2, slow.kv_s / 2))
    assert (fast.prefill_s, fast.attention_s) == (slow.prefill_s, slow.attention_s)


def test_tensor_parallelism_divides_the_work_and_pays_for_all_reduces() -> None:
    one, four = (step_time(MODELS["llama-3-70b"], GPUS["h100-sxm"], tp) for tp in (1, 4))
    assert one.base_s / 4 < four.base_s < one.base_s / 3
    assert one.prefill_s / 4 < four.prefill_s < one.prefill_s / 3
    assert four.kv_s == pytest.approx(one.kv_s / 4)


def test_the_error_on_the_measured_card_is_stored_and_small() -> None:
    """Its efficiencies are that card's, so this only holds the formulas together; the KV pool is a prediction (a card has more
    bytes than its name says)."""
    errors = roofline_profile("llama-3-70b", "h200", 2).fit_error["against h100-vllm-llama8b"]
    assert errors == errors_against(EngineProfile.load("h100-vllm-llama8b"))
    assert max(abs(errors[name]) for name in ("base_s", "prefill_s", "attention_s", "sequence_s", "kv_s")) < 0.05
    assert -0.1 < errors["kv_tokens"] < 0


def test_it_says_what_it_is() -> None:
    profile = roofline_profile("qwen2.5-7b", "a10g")
    assert profile.engine_version == "roofline"
    assert profile.measured_context_tokens == 0
    assert "not measured" in profile.provenance["roofline"]
    assert EngineProfile.from_json(profile.to_json()) == profile


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpt-9", "l4", 1), "model 'gpt-9' is not known; allowed: llama-3-8b"),
        (("llama-3-8b", "tpu", 1), "GPU 'tpu' is not known; allowed: h100-sxm"),
        (("llama-3-70b", "h100-sxm", 1), r"Llama-3-70B does not fit NVIDIA H100 SXM 80GB: 141.1 GB of weights over 1 card"),
        (("llama-3-8b", "l4", 3), "tensor parallelism 3: must divide the 32 heads"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roofline_profile(*arguments)


@pytest.mark.parametrize("gpu", GPUS)
def test_every_card_serves_a_small_model(gpu: str) -> None:
    assert roofline_profile("qwen2.5-1.5b", gpu).kv_blocks > 1000
