"""The numbers of one engine on one GPU and model: step-time coefficients and limits. It does not know how to run them."""

import hashlib
import json
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from math import isfinite, log1p
from pathlib import Path
from typing import Any

from replicas.scheduler_settings import POLICIES, SETTINGS, Settings
from workloads.draws import Draws, purpose_id

PROFILES = Path(__file__).parent / "profiles"

_LEAST = {
    "prefill_base_s": -1.0,
    "block_tokens": 1,
    "kv_blocks": 1,
    "max_running": 1,
    "max_batched_tokens": 1,
    "context_tokens": 2,
    "max_prefill_tokens": 1,
    "new_token_ratio_decay_steps": 1,
    "clip_max_new_tokens": 1,
}
_MOST = {
    "steps_ahead": 1,
    "launch_spread": 1.0,
    "cancel_loss": 1.0,
    "init_new_token_ratio": 1.0,
    "min_new_token_ratio_factor": 1.0,
    "watermark": 0.5,
}
_LIMIT = 1e12
_JITTER = Draws(purpose_id("engine-frontend-jitter"))
_ALLOWED: dict[object, str] = {str: "a text", bool: "true or false", dict[str, Any]: "a mapping of plain JSON data"}


class BadField(ValueError):
    """A field of a profile that no engine can have: its name, its value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name} = {repr(value)[:80]}: {allowed}")
        self.name, self.value, self.allowed = name, value, allowed


def _check_fields(owner: Any) -> None:
    """BadField for the first field of the wrong type or outside its bounds; an int passes for a float."""
    for f in fields(owner):
        value, kind = getattr(owner, f.name), f.type
        if kind in (float, int, int | None, float | None):
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
    optional, fractional = kind in (int | None, float | None), kind in (float, float | None)
    if value is None and optional:
        return
    least, most = _LEAST.get(name, 0), _MOST.get(name)
    numbers = int | float if fractional else int
    good = not isinstance(value, bool) and isinstance(value, numbers) and isfinite(value) and least <= value < _LIMIT
    if not good or (most is not None and isinstance(value, int | float) and value > most):
        noun = "a number" if fractional else "a whole number"
        bounds = f"below {_LIMIT:g}" if most is None else f"at most {most:g}"
        raise BadField(name, value, f"must be {noun} of at least {least} and {bounds}{' (or null)' if optional else ''}")


def _fits(value: object, kind: object) -> bool:
    if kind in (str, bool):
        return type(value) is kind
    try:
        return isinstance(value, dict) and bool(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return False


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of one engine step (ENGINE MODEL):

    t = base_s + prefill_s·new + attention_s·new·context + sequence_s·batch + kv_s·Σ kv_tokens

    `new` = prefill tokens in the step, `context` = mean number of tokens each of them attends to, `batch` = decoding
    sequences, `Σ kv_tokens` = their cached tokens. A step that holds any prefill token takes `prefill_base_s` (less than 0 where
    the weights are read while it computes; never less in all than without a prefill) and `prefill_sequence_s`·batch more.

    The host first schedules a step and prepares it, for `host_s` + `host_sequence_s`·(sequences in the step), then launches its
    kernels (`launch_s`); the GPU can begin in between, and is not done before both are. How long a launch takes varies between
    1 − `launch_spread` and 1 + `launch_spread` times its mean (measured: no shape but flat could be told).
    """

    base_s: float
    prefill_base_s: float
    prefill_s: float
    attention_s: float
    sequence_s: float
    kv_s: float
    prefill_floor_s: float = 0.0
    prefill_sequence_s: float = 0.0
    eager_launch_s: float = 0.0
    graph_tokens: int = 0
    graph_sequences: int = 0
    host_s: float = 0.0
    host_sequence_s: float = 0.0
    launch_spread: float = 0.0

    def __post_init__(self) -> None:
        _check_fields(self)

    def seconds(self, new: int, context: float, batch: int, kv_tokens: int) -> float:
        """Seconds of one step alone: the GPU's by the formula above, or the launch's where that takes longer."""
        decode_s = self.base_s + self.sequence_s * batch + self.kv_s * kv_tokens
        return max(self.gpu_s(decode_s, new, new * context, batch), self.launch_s(new, batch))

    def gpu_s(self, decode_s: float, new: int, attended: float, batch: int) -> float:
        """GPU seconds of a step whose decodes alone take `decode_s`; its `new` prefill tokens attend to `attended` in all."""
        if not new:
            return decode_s
        extra_s = self.prefill_base_s + self.prefill_sequence_s * batch + self.prefill_s * new + self.attention_s * attended
        return decode_s + extra_s if extra_s > 0.0 else decode_s

    def launch_s(self, new: int, batch: int) -> float:
        """Seconds in which the host launches the kernels of a step with `new` prefill tokens, beyond a CUDA graph of decodes (0):
        `prefill_floor_s`; `eager_launch_s` for more than `graph_tokens` tokens in all with a prefill among them, or more than
        `graph_sequences` decodes, which run without graphs (a limit of 0: all run with). On average: see `launch_spread`."""
        if not new:
            return self.eager_launch_s if 0 < self.graph_sequences < batch else 0.0
        return self.eager_launch_s if 0 < self.graph_tokens < new + batch else self.prefill_floor_s


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """One engine, as measured. Units in the names; None = no limit. `provenance` and `fit_error` are shown in the report.

    `scheduler` is a flavour of `replicas.schedulers`, `scheduler_settings` what it lets one set beyond the limits here (see
    `replicas.scheduler_settings`). `block_tokens` is SGLang's page. `max_queued` counts all requests in flight, running ones
    too, under `vllm` (its `--max-num-queued-reqs`), and only those that wait under the others (SGLang's
    `--max-queued-requests`). `max_batched_tokens` is the token budget of a step (`vllm`), the chunk (`sarathi`), unused else.

    Prompts longer than `measured_context_tokens` are an extrapolation. `cancel_loss` is the share of cancellations that never
    reach the engine. Who waits longer than `queue_timeout_s` is dropped with 503. `frontend_chunk_s` is what the front-end
    process takes for each output chunk (see `replicas.front_end`). The KV of a prompt takes `kv_transfer_latency_s` +
    `kv_transfer_s_per_token` a token from the replica that prefilled it to the one that decodes; until that one has it, it is
    kept for `kv_pin_timeout_s` at most (0 = not at all; vLLM's NIXL connector: 480 s).

    `steps_ahead` 1: the host schedules and launches each step while the one before still runs (vLLM's async scheduling, SGLang's
    overlap), `frontend_jitter_s` is the mean of an exponential delay on top of `frontend_s`.
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
    kv_transfer_latency_s: float = 0.0
    kv_pin_timeout_s: float = 0.0
    cancel_loss: float = 0.0
    queue_timeout_s: float | None = None
    frontend_chunk_s: float = 0.0
    frontend_jitter_s: float = 0.0
    steps_ahead: int = 0
    scheduler: str = "vllm"
    scheduler_settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    fit_error: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_fields(self)
        self.settings()
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

    def settings(self) -> Settings:
        """The scheduler's settings; raises BadField for an unknown scheduler, setting or policy, or a bad value."""
        if self.scheduler not in SETTINGS:
            raise BadField("scheduler", self.scheduler, f"allowed: {', '.join(SETTINGS)}")
        kind = SETTINGS[self.scheduler]
        allowed = [f.name for f in fields(kind)]
        for key, value in self.scheduler_settings.items():
            if key not in allowed:
                what = ", ".join(allowed) or "none"
                raise BadField(f"scheduler_settings.{key}", value, f"{self.scheduler} has no such setting; allowed: {what}")
        settings = kind(**self.scheduler_settings)
        try:
            _check_fields(settings)
        except BadField as error:
            raise BadField(f"scheduler_settings.{error.name}", error.value, error.allowed) from None
        policy = self.scheduler_settings.get("policy")
        if policy is not None and policy not in POLICIES[self.scheduler]:
            raise BadField("scheduler_settings.policy", policy, f"allowed: {', '.join(POLICIES[self.scheduler])}")
        return settings

    def kv_transfer_s(self, prompt_tokens: int) -> float:
        """Seconds that a prompt's KV is under way between two replicas."""
        return self.kv_transfer_latency_s + self.kv_transfer_s_per_token * prompt_tokens

    def frontend_delay_s(self, prompt_tokens: int, try_id: int = 0) -> float:
        """Seconds between a request's arrival and the scheduler seeing it (HTTP, tokenization, prefix hashes); the jitter is the
        try's own."""
        delay_s = self.frontend_s + self.frontend_s_per_token * prompt_tokens
        return delay_s - self.frontend_jitter_s * log1p(-_JITTER.uniform(try_id)) if self.frontend_jitter_s else delay_s

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
