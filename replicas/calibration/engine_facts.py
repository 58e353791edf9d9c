"""What a live engine says of itself: engine, version, model, KV pool, limits; and whether it is idle. It sends no prompt."""

import re
from dataclasses import dataclass
from typing import Any

from replicas.calibration.client import CannotMeasure, EngineClient

_RUNNING = {"vllm": "vllm:num_requests_running", "sglang": "sglang:num_running_reqs"}
_WAITING = {"vllm": "vllm:num_requests_waiting", "sglang": "sglang:num_queue_reqs"}
_CACHE_LABEL = re.compile(rb"^vllm:cache_config_info\{(.*)\} ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """None = the engine does not say."""

    engine: str
    version: str
    model: str
    context_tokens: int
    block_tokens: int | None
    kv_tokens: int | None
    max_running: int | None


async def ask(client: EngineClient, engine: str | None) -> EngineFacts:
    """Facts of the engine behind `client`, whose `model` is set; raises CannotMeasure where it is neither vLLM nor SGLang."""
    models = await client.get_json("/v1/models")
    if not models or not models.get("data"):
        raise CannotMeasure(f"{client.url}/v1/models: no model is served there")
    card = models["data"][0]
    client.model = card["id"]
    gauges = await client.gauges()
    found = engine or next((name for name, key in _RUNNING.items() if key in gauges), None)
    if found not in _RUNNING or _RUNNING[found] not in gauges:
        names = " or ".join(_RUNNING.values())
        raise CannotMeasure(f"{client.url}/metrics: no {names}; SGLang shows them with --enable-metrics")
    return await (_vllm if found == "vllm" else _sglang)(client, card)


async def must_be_idle(client: EngineClient, engine: str) -> None:
    """Raises CannotMeasure when anything runs or waits: it would be measured too."""
    running, waiting = await _load(client, engine)
    if running or waiting:
        raise CannotMeasure(f"{client.url}: {running:g} requests run and {waiting:g} wait there; nothing else may use the engine")


async def _load(client: EngineClient, engine: str) -> tuple[float, float]:
    """Requests that run and that wait. SGLang's gauges are not written while it is idle, so it is asked for its loads."""
    answer = await client.get_json("/v1/loads") if engine == "sglang" else None
    if answer and answer.get("loads"):
        running, waiting = (sum(float(x[f"num_{what}_reqs"]) for x in answer["loads"]) for what in ("running", "waiting"))
        return running, waiting
    gauges = await client.gauges()
    return gauges.get(_RUNNING[engine], 0.0), gauges.get(_WAITING[engine], 0.0)


async def _vllm(client: EngineClient, card: dict[str, Any]) -> EngineFacts:
    version = await client.get_json("/version") or {}
    labels = _CACHE_LABEL.search((await client.get("/metrics"))[1])
    cache = dict(re.findall(r'(\w+)="([^"]*)"', labels[1].decode())) if labels else {}
    block = _number(cache.get("block_size"))
    blocks = _number(cache.get("num_gpu_blocks"))
    kv = _number(cache.get("kv_cache_size_tokens")) or (block * blocks if block and blocks else None)
    return EngineFacts("vllm", str(version.get("version", "unknown")), card["id"], _context(card), block, kv, None)


async def _sglang(client: EngineClient, card: dict[str, Any]) -> EngineFacts:
    info = await client.get_json("/get_server_info") or await client.get_json("/server_info") or {}
    context = card.get("max_model_len") or info.get("context_length")
    return EngineFacts(
        "sglang",
        str(info.get("version", "unknown")),
        card["id"],
        _context({"max_model_len": context}),
        _number(info.get("page_size")),
        _number(info.get("max_total_num_tokens")),
        _number(info.get("max_running_requests")),
    )


def _context(card: dict[str, Any]) -> int:
    tokens = _number(card.get("max_model_len"))
    if not tokens:
        raise CannotMeasure("/v1/models does not say max_model_len")
    return tokens


def _number(value: object) -> int | None:
    try:
        return int(float(str(value)))
    except ValueError:
        return None
