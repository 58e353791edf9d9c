"""What each scheduler flavour lets one set, beyond the limits that every profile has. It does not know how they are used."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """vLLM's flags of the same names: `policy` fcfs or priority; `long_prefill_token_threshold` 0 = none.

    `whole_prompt_must_fit` (`scheduler_reserve_full_isl`): a request is admitted only when its whole prompt would fit into
    memory; else when its first chunk does. On, as in vLLM 0.26 (the shipped profile's release) and 0.32; releases up to early
    2026 had no such switch: their profiles say false. `watermark`: the share of KV blocks that an admission leaves free, unless
    nothing runs.
    """

    policy: str = "fcfs"
    long_prefill_token_threshold: int = 0
    whole_prompt_must_fit: bool = True
    watermark: float = 0.0


@dataclass(frozen=True, slots=True)
class SglangSettings:
    """SGLang's flags and environment variables. `policy` fcfs or lpm (longest prefix match); `chunked_prefill_size` 0 = off.

    The new-token ratio starts at `init_new_token_ratio` x `schedule_conservativeness` (at most 1) and falls to
    `min_new_token_ratio_factor` of that over `new_token_ratio_decay_steps` decode steps. `ignore_eos`: requests say that they
    will put out all of their `max_tokens` (forced lengths), so that admission expects all of it and the ratio does not count.
    """

    policy: str = "fcfs"
    chunked_prefill_size: int = 8192
    max_prefill_tokens: int = 16384
    schedule_conservativeness: float = 1.0
    init_new_token_ratio: float = 0.7
    min_new_token_ratio_factor: float = 0.14
    new_token_ratio_decay_steps: int = 600
    retract_decode_steps: int = 20
    clip_max_new_tokens: int = 4096
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class OrcaSettings:
    """Nothing to set."""


@dataclass(frozen=True, slots=True)
class SarathiSettings:
    """`watermark`: the share of KV blocks that an admission leaves free."""

    watermark: float = 0.01


Settings = VllmSettings | SglangSettings | OrcaSettings | SarathiSettings

SETTINGS: dict[str, type[Settings]] = {
    "vllm": VllmSettings,
    "sglang": SglangSettings,
    "orca": OrcaSettings,
    "sarathi": SarathiSettings,
}

POLICIES: dict[str, tuple[str, ...]] = {"vllm": ("fcfs", "priority"), "sglang": ("fcfs", "lpm")}
