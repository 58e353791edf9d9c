"""The command line that serves one simulated replica for a spec, in vLLM's dialect. It starts nothing."""

import json
from pathlib import Path
from typing import Any

from replicas.launch.ports import free_port
from replicas.launch.spec import Command, EngineSpec
from replicas.profile import EngineProfile


def command(spec: EngineSpec) -> Command:
    """How to start it, with `/fault` open: its time must stand still while its process does (see `faults.pause`).

    ValueError for a profile that is not there or a limit that it cannot have.
    """
    port = spec.port or free_port(spec.host)
    argv = [*spec.server, "--profile", spec.profile, "--flavour", "vllm", "--model", spec.served_name]
    argv += ["--host", spec.host, "--port", str(port), "--replicas", "1"]
    if spec.drain_s is not None:
        argv += ["--shutdown-timeout", str(spec.drain_s)]
    if spec.model != Path():
        argv += ["--tokenizer", str(spec.model)]
    for name, value in _changes(spec).items():
        argv += ["--set", f"{name}={json.dumps(value)}"]
    return Command((*argv, "--admin", *spec.arguments), dict(spec.environment), port)


def _changes(spec: EngineSpec) -> dict[str, Any]:
    """Fields of the profile that the spec changes: its limits win."""
    block = spec.block_tokens or spec.changes.get("block_tokens") or EngineProfile.load(spec.profile).block_tokens
    limits = {
        "context_tokens": spec.context_tokens,
        "max_running": spec.max_running,
        "max_batched_tokens": spec.max_batched_tokens,
        "max_queued": spec.max_queued,
        "block_tokens": spec.block_tokens,
        "kv_blocks": None if spec.kv_tokens is None else max(1, spec.kv_tokens // block),
    }
    changes = {**spec.changes, **{name: value for name, value in limits.items() if value is not None}}
    EngineProfile.load(spec.profile).with_changes(changes)
    return changes
