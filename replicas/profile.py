"""The numbers of one engine on one GPU and model: step-time coefficients and limits. It does not know how to run them."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one engine step (ENGINE MODEL):

    t = base_s + prefill_s·new + attention_s·new·context + sequence_s·batch + kv_s·Σ kv_tokens

    `new` = prefill tokens in the step, `context` = mean number of tokens each of them attends to, `batch` = decoding
    sequences, `Σ kv_tokens` = their cached tokens. `prefill_base_s` is added when a step holds any prefill token (such steps
    leave the CUDA-graph path), and such a step never takes less than `prefill_floor_s` (launching its kernels takes that long).
    """

    base_s: float
    prefill_base_s: float
    prefill_s: float
    attention_s: float
    sequence_s: float
    kv_s: float
    prefill_floor_s: float = 0.0

    def seconds(self, new: int, context: float, batch: int, kv_tokens: int) -> float:
        """Seconds of one step, by the formula above."""
        seconds = self.base_s + self.sequence_s * batch + self.kv_s * kv_tokens
        if not new:
            return seconds
        seconds += self.prefill_base_s + self.prefill_s * new + self.attention_s * new * context
        return max(seconds, self.prefill_floor_s)


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine, as measured. Units in the names; None = no limit. `provenance` and `fit_error` are shown in the report.

    Prompts longer than `measured_context_tokens` are an extrapolation.
    """

    name: str
    engine: str
    engine_version: str
    gpu: str
    model: str
    step: StepTime
    block_tokens: int
    kv_blocks: int
    max_running: int
    max_batched_tokens: int
    context_tokens: int
    frontend_s: float
    cancel_lag_s: float
    max_queued: int | None = None
    measured_context_tokens: int = 0
    kv_transfer_s_per_token: float = 0.0
    frontend_s_per_token: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    fit_error: dict[str, Any] = field(default_factory=dict)

    def with_changes(self, changes: dict[str, Any]) -> "EngineProfile":
        """A copy with some fields replaced; raises ValueError naming an unknown field and what is allowed."""
        allowed = sorted(f.name for f in fields(self) if f.name != "step")
        for key in changes:
            if key not in allowed:
                raise ValueError(f"{key!r} is not a field of an engine profile; allowed: {', '.join(allowed)}")
        return replace(self, **changes)

    def frontend_delay_s(self, prompt_tokens: int) -> float:
        """Seconds between a request's arrival and the scheduler seeing it (HTTP, tokenization, prefix hashes)."""
        return self.frontend_s + self.frontend_s_per_token * prompt_tokens

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "EngineProfile":
        return EngineProfile(**{**data, "step": StepTime(**data["step"])})

    @staticmethod
    def load(name_or_path: str) -> "EngineProfile":
        """A shipped profile by name, or a JSON file; raises ValueError in one clear line."""
        path = Path(name_or_path)
        if path.suffix != ".json":
            path = PROFILES / f"{name_or_path}.json"
        if not path.is_file():
            shipped = ", ".join(sorted(p.stem for p in PROFILES.glob("*.json")))
            raise ValueError(f"no engine profile {name_or_path!r}; shipped: {shipped}; or give a .json file")
        try:
            return EngineProfile.from_json(json.loads(path.read_text()))
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"{path}: not an engine profile: {error}") from error
