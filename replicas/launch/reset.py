"""Empties a replica's prefix cache between cells and proves by the engine's own counters that it is empty. It knows no cell."""

import json
import secrets
import time
from dataclasses import dataclass

from replicas.launch.api import one_line
from replicas.launch.failed import EngineFailed
from replicas.launch.gauges import Reading
from replicas.launch.replica import Replica, prompt_ids
from replicas.launch.scrape import take

_PATHS = {"vllm": "/reset_prefix_cache", "sglang": "/flush_cache"}
_HINTS = {404: " (vLLM has it only with VLLM_SERVER_DEV_MODE=1)", 401: " (the key is missing or wrong)"}
_PAUSE_S = 0.1
_SETTLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Flushed:
    """Cached tokens of one prompt: sent to an emptied cache, sent again, and sent once more after a second flush."""

    replica_id: int
    prompt_tokens: int
    cached_first: int
    cached_again: int
    cached_after: int
    took_s: float


def flush(replica: Replica, patience_s: float = 10.0) -> None:
    """Ask the engine to forget its prefixes, again while requests still run there; EngineFailed when it does not in time."""
    path = _PATHS[replica.dialect]
    if replica.spec is not None and replica.engine == "vllm" and replica.spec.kv_transfer:
        path += "?reset_external=true"
    until = time.monotonic() + patience_s
    while True:
        status, text = replica.api.post(path)
        if status == 200 and _success(text):
            return
        if status in _HINTS or time.monotonic() > until:
            raise EngineFailed(f"{replica.url}{path}: HTTP {status} {one_line(text, 120)}{_HINTS.get(status, '')}")
        time.sleep(_PAUSE_S)


def flush_in_use(replica: Replica, patience_s: float = 5.0) -> bool:
    """Make a replica forget its prefixes while it may be working; EngineFailed when it does not.

    True: its running requests lost their KV too and compute it again. vLLM can do it only so; SGLang not at all, so it is asked
    for `patience_s` whether it is idle; the simulated engine keeps what running requests hold.
    """
    if replica.engine == "served":
        _ask_to_flush(replica, "/fault", {"kind": "flush"})
        return False
    if replica.dialect == "sglang":
        flush(replica, patience_s)
        return False
    try:
        flush(replica, patience_s=0.0)
    except EngineFailed:
        _ask_to_flush(replica, f"{_PATHS['vllm']}?reset_running_requests=true")
        return True
    return False


def reset(replica: Replica, patience_s: float = 10.0, prompt_tokens: int = 256) -> Flushed:
    """Wait until nothing runs, flush, and verify; the cache is empty afterwards.

    It is flushed before the first question too: in a cache by the token, any two prompts may share their first.
    `prompt_tokens` must be more than one block of the engine. EngineFailed, in one line, when it is not idle in time, when a
    repeated prompt is not cached (then a flush can prove nothing), or when anything is cached after the flush. ValueError for a
    replica that answers only as one of a pair: it can be flushed, but not asked.
    """
    if not replica.answers_alone:
        raise ValueError(
            f"replica {replica.replica_id} ({replica.url}) answers only in a pair: flush it, and verify through the router"
        )
    began_s = time.monotonic()
    _wait_idle(replica, patience_s)
    flush(replica, patience_s)
    prompt = prompt_ids(secrets.token_hex(16), prompt_tokens)
    first, again = _cached(replica, prompt), _cached(replica, prompt)
    if first or not again:
        raise EngineFailed(
            f"{replica.url}: of {prompt_tokens} tokens {first} were cached after {_PATHS[replica.dialect]}, and {again} when "
            "sent again: its prefix cache is off, its flush does nothing, or others use it; it cannot be verified"
        )
    flush(replica, patience_s)
    after = _cached(replica, prompt)
    if after:
        raise EngineFailed(f"{replica.url}: {after} of {prompt_tokens} tokens are still cached after {_PATHS[replica.dialect]}")
    flush(replica, patience_s)
    return Flushed(replica.replica_id, prompt_tokens, first, again, after, time.monotonic() - began_s)


def _ask_to_flush(replica: Replica, path: str, body: object = None) -> None:
    status, text = replica.api.post(path, body)
    if status != 200 or not _success(text):
        raise EngineFailed(f"{replica.url}{path}: HTTP {status} {one_line(text, 120)}")


def _cached(replica: Replica, prompt: list[int]) -> int:
    """Cached tokens of a completion: the larger of what the answer says and what the engine's counter says."""
    before = take(replica.source, timeout_s=10.0)
    told = replica.api.complete(prompt, 1).cached_tokens or 0
    after = _counted(replica, before, len(prompt))
    return max(told, after.prefix_hit_tokens - before.prefix_hit_tokens)


def _counted(replica: Replica, before: Reading, prompt_tokens: int) -> Reading:
    """The first reading that counts the prompt: an answer may be out before the engine's books are made up."""
    until = time.monotonic() + _SETTLE_S
    while True:
        reading = take(replica.source, timeout_s=10.0)
        if reading.prefix_query_tokens - before.prefix_query_tokens >= prompt_tokens:
            return reading
        if time.monotonic() > until:
            raise EngineFailed(
                f"{replica.url}/metrics does not count a prompt of {prompt_tokens} tokens: a flush cannot be verified"
            )
        time.sleep(0.02)


def _wait_idle(replica: Replica, patience_s: float) -> None:
    """vLLM says whether it is idle; SGLang's gauges are old news once it is, and its flush waits for the last request anyway."""
    until = time.monotonic() + patience_s
    while replica.dialect == "vllm" and ((now := take(replica.source, 10.0)).running or now.waiting):
        if time.monotonic() > until:
            raise EngineFailed(f"{replica.url}: {now.running} requests run and {now.waiting} wait there after {patience_s:.0f} s")
        time.sleep(_PAUSE_S)


def _success(text: str) -> bool:
    """vLLM answers 200 also when it did not: {"success": false}. SGLang and older vLLMs answer by the status alone."""
    try:
        return bool(json.loads(text).get("success", True))
    except (ValueError, AttributeError):
        return True
