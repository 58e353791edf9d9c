"""A live pool of a study on this host: which programs and models it is made of, and what a cell says of it. It starts nothing."""

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from flows.study import Pool, Study, StudyError
from flows.study_pool import TINY, TINY_CONTEXT_TOKENS, LiveGroup
from replay.cell import PoolSpec
from replicas.launch.cards import Cards
from replicas.launch.environment import Environment, find
from replicas.launch.facts import engine_version
from replicas.launch.failed import EngineFailed
from replicas.launch.ports import free_port
from replicas.launch.replica import RemoteSpec, remote_replica
from replicas.launch.spec import EngineSpec, model_config
from replicas.launch.tiny_model import write_tiny_model

SERVED_NAME = "model"
SERVED_VOCABULARY = 4096  # ids below it are in every simulated tokenizer too
SERVER = (sys.executable, "-m", "flows.cli", "serve", "replica")
ROUTER = (sys.executable, "-m", "flows.cli", "serve", "router")
REMOTE_READY_S = 30.0


@dataclass(frozen=True, slots=True)
class LivePool:
    """What to start or reach (in replica-id order), and how to ask it: served model, tokenizer's folder ("" = none), ids below
    `vocabulary_size`, and how an exact output length is asked for. `spec` is its identity in cells."""

    title: str
    spec: PoolSpec
    replicas: tuple[EngineSpec | RemoteSpec, ...]
    model: str
    tokenizer: str
    vocabulary_size: int
    length: str


def live_pools(study: Study) -> dict[str, LivePool]:
    """The live pools by title. StudyError in one line for an environment, a model or a remote replica that is not there."""
    return {pool.title: live_pool(pool, ".".join(_path(study, i))) for i, pool in enumerate(study.pools) if pool.is_live}


def _path(study: Study, i: int) -> tuple[str, ...]:
    return ("pool", str(i)) if isinstance(study.pool, list) else ("pool",)


def live_pool(pool: Pool, where: str = "pool") -> LivePool:
    """One live pool; `where` names it in an error."""
    replicas: list[EngineSpec | RemoteSpec] = []
    told: list[dict[str, Any]] = []
    models = {_model_of(group, where) for group in pool.groups}
    if len({path.name if path else name for path, name in models}) > 1:
        raise StudyError(f"{where}.live: its groups serve different models; senders ask all replicas for the same one")
    for group in pool.groups:
        try:
            specs, facts = _launched(group, pool) if not group.remote else _reached(group)
        except (ValueError, EngineFailed) as error:
            raise StudyError(f"{where}.live ({group.engine}): {' '.join(str(error).split())}") from error
        replicas += specs
        told.append(facts)
    folder, name = next(iter(models))
    engines = [group.engine for group in pool.groups]
    spec = PoolSpec(
        label=pool.title,
        replicas=pool.replicas,
        profile=_named(pool),
        profile_hash="" if pool.profile is None else pool.spec().profile_hash,
        changes=pool.all_changes,
        roles=pool.all_roles,
        engine=" + ".join(dict.fromkeys(engines)),
        live={"groups": told},
    )
    length = "min_tokens" if "sglang" in engines else "ignore_eos"
    return LivePool(pool.title, spec, tuple(replicas), name, str(folder or ""), _vocabulary(folder), length)


def _named(pool: Pool) -> str:
    return "" if pool.profile is None else pool.spec().profile


def _model_of(group: LiveGroup, where: str) -> tuple[Path | None, str]:
    """(the model's folder here, or None, and the name it is served by)."""
    if group.remote:
        return None, group.model
    if group.model == TINY:
        return tiny_model(group.context_tokens), SERVED_NAME
    folder = Path(group.model).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise StudyError(f"{where}.live.model = {group.model!r}: no folder with a config.json; give a model's folder, or {TINY}")
    return folder, SERVED_NAME


def tiny_model(context_tokens: int | None) -> Path:
    """The folder of the made-up model, made when it is not there yet: among the user's caches, one for each context."""
    context = max(TINY_CONTEXT_TOKENS, context_tokens or 0)
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return write_tiny_model(caches / "stampede" / "models" / f"tiny-{context}", context_tokens=context)


def _vocabulary(folder: Path | None) -> int:
    """Token ids below this are safe to send: an id beyond an engine's vocabulary kills SGLang."""
    return SERVED_VOCABULARY if folder is None else int(model_config(folder)["vocab_size"])


def _launched(group: LiveGroup, pool: Pool) -> tuple[list[EngineSpec | RemoteSpec], dict[str, Any]]:
    if group.engine == "served":
        return _served(group, pool)
    folder, _ = _model_of(group, "pool")
    assert folder is not None
    found = find(group.engine, group.python)
    weights = group.weights or ("dummy" if group.model == TINY else "model")
    specs: list[EngineSpec | RemoteSpec] = [
        EngineSpec(
            engine=group.engine,
            python=found.python,
            model=folder,
            served_name=SERVED_NAME,
            gpus=tuple(str(card) for card in group.gpus[i]) if group.gpus else (),
            weights=weights,
            threads=group.threads,
            role=group.role,
            kv_transfer=group.kv_transfer,
            transfer_port=None if group.role == "both" else free_port("127.0.0.1"),
            arguments=tuple(group.arguments),
            environment=dict(group.environment),
            context_tokens=group.context_tokens,
            max_running=group.max_running,
            max_batched_tokens=group.max_batched_tokens,
            max_queued=group.max_queued,
            kv_tokens=group.kv_tokens,
            kv_bytes=group.kv_bytes,
            block_tokens=group.block_tokens,
        )
        for i in range(group.replicas)
    ]
    return specs, {**_facts(group, _version(found)), "model": _model_facts(folder, group.model == TINY), "weights": weights}


def _served(group: LiveGroup, pool: Pool) -> tuple[list[EngineSpec | RemoteSpec], dict[str, Any]]:
    """The simulated engine behind HTTP, with the tiny model's tokenizer, so that text means the same to both sides."""
    one = EngineSpec(
        engine="served",
        model=tiny_model(group.context_tokens),
        profile=_named(pool),
        changes=dict(pool.changes),
        server=SERVER,
        served_name=SERVED_NAME,
        context_tokens=group.context_tokens,
        max_running=group.max_running,
        max_batched_tokens=group.max_batched_tokens,
        max_queued=group.max_queued,
        kv_tokens=group.kv_tokens,
        block_tokens=group.block_tokens,
    )
    return [one] * group.replicas, _facts(group, f"stampede {distribution_version('stampede')}")


def _reached(group: LiveGroup) -> tuple[list[EngineSpec | RemoteSpec], dict[str, Any]]:
    """Remote replicas that answer; EngineFailed for one that does not."""
    specs = [
        RemoteSpec(url=url, model=group.model, engine=group.engine, api_key_variable=group.api_key_variable) for url in group.urls
    ]
    found = {engine_version(remote_replica(i, spec, REMOTE_READY_S)) or "unknown" for i, spec in enumerate(specs)}
    return list(specs), {**_facts(group, ", ".join(sorted(found))), "model": {"name": group.model}, "remote": True}


def _version(found: Environment) -> str:
    return found.version or "unknown"


def _facts(group: LiveGroup, version: str) -> dict[str, Any]:
    """What of a group results depend on: no path, port, address or card's number."""
    facts: dict[str, Any] = {"engine": group.engine, "version": version, "replicas": group.replicas, **group.limits}
    facts |= {name: value for name in ("threads", "kv_transfer") if (value := getattr(group, name)) is not None}
    if group.role != "both":
        facts["role"] = group.role
    if group.gpus:
        names = Cards().names
        facts["cards"] = sorted({" + ".join(names.get(str(card), "unknown card") for card in cards) for cards in group.gpus})
    if group.arguments:
        facts["arguments"] = list(group.arguments)
    if group.environment:  # values may be secrets
        facts["environment"] = _digest(json.dumps(group.environment, sort_keys=True).encode())
    return facts


def _model_facts(folder: Path, tiny: bool) -> dict[str, Any]:
    """A model by its content: a hash of its config, and how large its weights are."""
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    name = TINY if tiny else folder.name
    return {"name": name, "config": _digest((folder / "config.json").read_bytes()), "weights_bytes": weights}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
