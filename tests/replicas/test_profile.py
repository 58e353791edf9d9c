"""The step-time formula term by term, and profiles as files."""

import json
from pathlib import Path

import pytest

from replicas.profile import EngineProfile, StepTime
from replicas.scheduler_settings import SglangSettings, VllmSettings

STEP = StepTime(
    base_s=6e-3, prefill_base_s=2e-3, prefill_s=2e-5, attention_s=1e-9, sequence_s=1e-5, kv_s=4e-8, prefill_floor_s=16e-3
)


@pytest.mark.parametrize(
    ("new", "context", "batch", "kv_tokens", "expected_s"),
    [
        (0, 0.0, 1, 0, 6.01e-3),  # 6 ms + 1 x 0.01
        (0, 0.0, 100, 50_000, 9e-3),  # 6 + 1 + 2
        (1000, 500.0, 0, 0, 28.5e-3),  # 6 + 2 + 20 + 0.5
        (1000, 500.0, 100, 50_000, 31.5e-3),  # the same beside 100 decodes
        (16, 8.0, 0, 0, 16e-3),  # 8.3 ms of work, but the floor holds
    ],
)
def test_step_seconds(new: int, context: float, batch: int, kv_tokens: int, expected_s: float) -> None:
    assert STEP.seconds(new, context, batch, kv_tokens) == pytest.approx(expected_s, rel=1e-3)


def test_the_floor_does_not_touch_pure_decode_steps() -> None:
    assert STEP.seconds(0, 0.0, 1, 0) < STEP.prefill_floor_s


def shipped() -> EngineProfile:
    return EngineProfile.load("h100-vllm-llama8b")


def test_the_front_end_delays_long_prompts_more() -> None:
    profile = shipped().with_changes({"frontend_s": 0.01, "frontend_s_per_token": 1e-6, "frontend_jitter_s": 0.0})
    assert profile.frontend_delay_s(5000) == pytest.approx(0.015)


def test_a_profile_survives_json() -> None:
    profile = shipped()
    assert EngineProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_the_shipped_profile_says_what_was_measured() -> None:
    profile = shipped()
    assert (profile.block_tokens, profile.kv_blocks, profile.max_running, profile.max_batched_tokens) == (16, 28_934, 256, 8192)
    assert profile.measured_context_tokens < profile.context_tokens == 131_072
    assert {"measured", "files", "rows", "formula", "dropped", "cancel_lag"} <= profile.provenance.keys()
    assert {"sweeps", "runs"} == profile.fit_error.keys()


def test_changes_name_their_field() -> None:
    assert shipped().with_changes({"max_queued": 8}).max_queued == 8
    with pytest.raises(ValueError, match=r"^'max_queue' is not a field of an engine profile; allowed: .*max_queued"):
        shipped().with_changes({"max_queue": 8})


def test_a_profile_without_a_scheduler_is_vllms() -> None:
    bare = {k: v for k, v in shipped().to_json().items() if k not in ("scheduler", "scheduler_settings")}
    assert EngineProfile.from_json(bare) == shipped()
    assert shipped().settings() == VllmSettings("fcfs", 0)


def test_a_flavour_and_its_settings_can_be_changed_together() -> None:
    settings = {"policy": "lpm", "chunked_prefill_size": 2048}
    changed = shipped().with_changes({"scheduler": "sglang", "scheduler_settings": settings})
    assert changed.settings() == SglangSettings(policy="lpm", chunked_prefill_size=2048)
    assert changed.content_hash != shipped().content_hash


def test_an_unknown_profile_names_those_shipped() -> None:
    with pytest.raises(ValueError, match=r"no engine profile 'a100'; shipped: .*h100-vllm-llama8b"):
        EngineProfile.load("a100")


SPOILT = [
    ({"kv_blocks": 100}, "kv_blocks = 100: .* one sequence of full length must fit"),
    ({"kv_blocks": "100"}, "kv_blocks = '100': must be a whole number"),
    ({"frontend_s": float("nan")}, "frontend_s = nan: must be a number"),
    ({"max_running": True}, "max_running = True"),
    ({"step": 5}, "its step is a mapping"),
    ({"step": {"base_s": 1}}, "its step lacks prefill_base_s"),
    ({"kv_block": 1}, "no key 'kv_block'; allowed: .*kv_blocks"),
    ({"provenance": None}, "provenance = None: must be a mapping"),
    ({"cancel_loss": 1.5}, "cancel_loss = 1.5: must be a number of at least 0 and at most 1"),
    ({"queue_timeout_s": "5"}, r"queue_timeout_s = '5': must be a number .*\(or null\)"),
    ({"scheduler": "sgl"}, "scheduler = 'sgl': allowed: vllm, sglang, orca, sarathi"),
    ({"scheduler": 3}, "scheduler = 3: must be a text"),
    ({"scheduler_settings": 3}, "scheduler_settings = 3: must be a mapping"),
    ({"scheduler_settings": {"polcy": "fcfs"}}, "polcy = 'fcfs': vllm has no such setting; allowed: policy, long_prefill"),
    ({"scheduler_settings": {"policy": "lpm"}}, "scheduler_settings.policy = 'lpm': allowed: fcfs, priority"),
    ({"scheduler_settings": {"whole_prompt_must_fit": 1}}, "whole_prompt_must_fit = 1: must be true or false"),
    ({"scheduler_settings": {"policy": 1}}, "scheduler_settings.policy = 1: must be a text"),
    ({"scheduler": "orca", "scheduler_settings": {"policy": "fcfs"}}, "orca has no such setting; allowed: none"),
    ({"scheduler": "sglang", "scheduler_settings": {"chunked_prefill_size": -1}}, "chunked_prefill_size = -1: must be a whole"),
    ({"scheduler": "sglang", "scheduler_settings": {"init_new_token_ratio": 2}}, "init_new_token_ratio = 2: .* at most 1"),
    ({"scheduler": "sarathi", "scheduler_settings": {"watermark": None}}, "watermark = None: must be a number"),
]


@pytest.mark.parametrize(("spoilt", "said"), SPOILT, ids=[said[:24] for _, said in SPOILT])
def test_a_file_with_a_field_no_engine_can_have_is_refused(tmp_path: Path, spoilt: dict[str, object], said: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(shipped().to_json() | spoilt))
    with pytest.raises(ValueError, match=rf"mine\.json: not an engine profile: .*{said}"):
        EngineProfile.load(str(path))


@pytest.mark.parametrize("text", ["{", "{}", '{"step": {}}', "[" * 100_000])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"mine\.json: not an engine profile"):
        EngineProfile.load(str(path))
