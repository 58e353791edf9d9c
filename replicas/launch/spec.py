"""What a replica is to be: engine, environment, model, card, limits, role. It knows no command line and starts nothing."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENGINES = ("vllm", "sglang", "served")
ROLES = ("both", "prefill", "decode")
WEIGHTS = ("model", "dummy")
_AT_LEAST_1 = ("context_tokens", "max_running", "max_batched_tokens", "max_queued", "kv_tokens", "kv_bytes", "block_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """One replica to launch; None leaves a limit to the engine. ValueError names the field, its value and what is allowed.

    `python` is the interpreter of the engine's environment, `model` a folder. `gpus` are indices (in PCI order) or UUIDs; empty
    means the CPU, several make one tensor-parallel replica. `port` 0 takes any free one. `weights` "dummy" makes random weights,
    the same on every replica. `threads` is OMP's (default: 1 on a CPU, else the engine's own). The KV pool has `kv_tokens`
    (either engine) or `kv_bytes` (vLLM). `max_queued` refuses: vLLM counts all in flight, SGLang only what waits. `drain_s` is
    how long a stopping vLLM lets streams end. In a prefill/decode pool `role` is prefill or decode, `kv_transfer` the way KV
    takes (vLLM: a connector's name or its JSON, SGLang: a transfer backend) and `transfer_port` vLLM's side channel or SGLang's
    bootstrap port. `arguments` and `environment` come last and win.

    `served` is the simulated engine over HTTP, in vLLM's dialect, with vLLM's limits: it needs `profile` (a shipped name or a
    file) and `server`, the command that serves one replica; `changes` are fields of the profile, `model` the folder of its
    tokenizer (by default a made-up one), and `python` is not used.
    """

    engine: str
    python: Path = Path()
    model: Path = Path()
    profile: str = ""
    server: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    served_name: str = "model"
    host: str = "127.0.0.1"
    port: int = 0
    gpus: tuple[str, ...] = ()
    weights: str = "model"
    threads: int | None = None
    context_tokens: int | None = None
    max_running: int | None = None
    max_batched_tokens: int | None = None
    max_queued: int | None = None
    kv_tokens: int | None = None
    kv_bytes: int | None = None
    block_tokens: int | None = None
    drain_s: float | None = None
    role: str = "both"
    kv_transfer: str | None = None
    transfer_port: int | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, allowed in (("engine", ENGINES), ("role", ROLES), ("weights", WEIGHTS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}")
        for name in (*_AT_LEAST_1, "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value!r}; allowed: 1 or more, or nothing")
        for name, low in (("port", 0), ("transfer_port", 1)):
            if (value := getattr(self, name)) is not None and not low <= value <= 65_535:
                raise ValueError(f"{name} is {value!r}; allowed: {low} to 65535")
        self._check_sizes()
        self._check_files()

    def _check_sizes(self) -> None:
        if self.engine == "served" and (self.gpus or self.role != "both"):
            raise ValueError(f"engine is 'served': gpus {list(self.gpus)} and role {self.role!r} are not allowed; none, and both")
        if self.kv_bytes is not None and (self.kv_tokens is not None or self.engine != "vllm"):
            raise ValueError(f"kv_bytes is {self.kv_bytes}: allowed for vllm only, and not together with kv_tokens")
        if self.role != "both" and (self.kv_transfer is None or self.transfer_port is None):
            raise ValueError(f"role is {self.role!r}: kv_transfer and transfer_port must be given with it")

    def _check_files(self) -> None:
        if self.engine == "served":
            for name in ("profile", "server"):
                if not getattr(self, name):
                    raise ValueError(f"{name} is {getattr(self, name)!r}: must be given with engine 'served'")
            return
        if shutil.which(str(self.python)) is None:
            raise ValueError(
                f"python is {str(self.python)!r}: no such program; give the Python of an environment with {self.engine}"
            )
        if not (self.model / "config.json").is_file():
            raise ValueError(f"model is {str(self.model)!r}: no folder with a config.json")

    @property
    def on_cpu(self) -> bool:
        return not self.gpus


@dataclass(frozen=True, slots=True)
class Command:
    """A command line with what it adds to the environment; `port` is where it will listen."""

    argv: tuple[str, ...]
    environment: dict[str, str]
    port: int


def model_config(model: Path) -> dict[str, Any]:
    """The text model's part of a folder's config.json."""
    config: dict[str, Any] = json.loads((model / "config.json").read_text())
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def kv_bytes_per_token(model: Path, value_bytes: int) -> int:
    """Bytes of KV cache one token takes on one card: layers × KV heads × head size × 2 (key and value) × `value_bytes`.

    ValueError where the config is not of plain attention (latent or hybrid caches have another size).
    """
    config = model_config(model)
    if config.get("kv_lora_rank") or {"full_attention"} != set(config.get("layer_types") or ["full_attention"]):
        raise ValueError(f"kv_tokens: {model}/config.json is no plain attention; give kv_bytes instead")
    try:
        heads = config["num_attention_heads"]
        size = config.get("head_dim") or config["hidden_size"] // heads
        return int(config["num_hidden_layers"] * (config.get("num_key_value_heads") or heads) * size * 2 * value_bytes)
    except KeyError as missing:
        raise ValueError(f"kv_tokens: {model}/config.json has no {missing.args[0]}; give kv_bytes instead") from None


def offline_environment(spec: EngineSpec) -> dict[str, str]:
    """What both engines get: no network, no tracking, which cards, how many threads."""
    found = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if spec.threads or spec.on_cpu:
        found["OMP_NUM_THREADS"] = str(spec.threads or 1)
    if spec.gpus:
        found |= {"CUDA_VISIBLE_DEVICES": ",".join(spec.gpus), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return found


def options(pairs: Mapping[str, object | None]) -> list[str]:
    """Command-line options of all values that are given."""
    return [text for name, value in pairs.items() if value is not None for text in (f"--{name}", str(value))]
