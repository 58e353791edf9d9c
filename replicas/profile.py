"""The numbers of one engine on one GPU and model: step-time coefficients and limits. It does not know how to run them."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parent / "profiles"

_LEAST = {"block_tokens": 1, "kv_blocks": 1, "max_running": 1, "max_batched_tokens": 1, "context_tokens": 2}
_MOST = 1e12
_ALLOWED: dict[object, str] = {str: "a text", dict[str, Any]: "a mapping of plain JSON data"}


class BadField(ValueError):
    """A field of a profile that no engine can have: its name, its value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} = {repr(value)[:80]}: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


def _check_fields(owner: Any) -> None:
    """BadField for the first field of the wrong type or outside its bounds; an int passes for a float."""
    for f in fields(owner):
        value, kind = getattr(owner, f.name), f.type
        if kind is float or kind is int or kind == int | None:
            _check_number(f.name, value, kind)
        elif kind in _ALLOWED and not _fits(value, kind):
            raise BadField(f.name, value, f"must be {_ALLOWED[kind]}")


def _check_keys(what: str, kind: Any, data: object) -> None:
    """ValueError unless `data` has the keys of a dataclass: all without a default, and no others."""
    allowed = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(kind)}
    if not isinstance(data, dict):
        raise ValueError(f"{what} is a mapping of keys: {', '.join(allowed)}")
    for key in data:
        if key not in allowed:
            raise ValueError(f"{what} has no key {key!r}; allowed: {', '.join(allowed)}")
    lacking = [name for name, required in allowed.items() if required and name not in data]
    if lacking:
        raise ValueError(f"{what} lacks {', '.join(lacking)}")


def _check_number(name: str, value: object, kind: object) -> None:
    if value is None and kind == int | None:
        return
    least = _LEAST.get(name, 0)
    numbers = int | float if kind is float else int
    if isinstance(value, bool) or not isinstance(value, numbers) or not least <= value < _MOST or not isfinite(value):
        noun = "a number" if kind is float else "a whole number"
        or_null = " (or null)" if kind == int | None else ""
        raise BadField(name, value, f"must be {noun} of at least {least} and below {_MOST:g}{or_null}")


def _fits(value: object, kind: object) -> bool:
    if kind is str:
        return isinstance(value, str)
    try:
        return isinstance(value, dict) and bool(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False


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

    def __post_init__(self) -> None:
        _check_fields(self)

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

    Prompts longer than `measured_context_tokens` are an extrapolation. `max_queued` bounds the requests that wait, not those that
    run (vLLM's `--max-num-queued-reqs` was seen to count both).
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

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.kv_blocks * self.block_tokens < self.context_tokens:
            allowed = (
                f"with block_tokens {self.block_tokens} it is less than context_tokens {self.context_tokens}; "
                "one sequence of full length must fit"
            )
            raise BadField("kv_blocks", self.kv_blocks, allowed)

    def with_changes(self, changes: dict[str, Any]) -> "EngineProfile":
        """A copy with some fields replaced; raises ValueError naming an unknown or bad field and what is allowed."""
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

    @property
    def content_hash(self) -> str:
        """16 hex digits over the canonical JSON of all fields."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    @staticmethod
    def from_json(data: dict[str, Any]) -> "EngineProfile":
        """A profile from plain data; ValueError names a key that is unknown or missing, or a bad value."""
        _check_keys("an engine profile", EngineProfile, data)
        _check_keys("its step", StepTime, data["step"])
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
            return EngineProfile.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: not an engine profile: {error}") from error
