"""How vLLM is started on a CPU for tests, and held still so that requests meet in one step. It knows no scenario."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.engines.launch import RealEngine, free_port, serving
from tests.engines.stream import Stream

BLOCK_TOKENS = 32
KV_TOKENS = 4096
CONTEXT_TOKENS = 2048
KV_BYTES = KV_TOKENS * 1024  # the tiny model: 2 layers x 2 heads x 32 x 2 x 4 bytes a token

# Developer mode opens /pause, /resume and /reset_prefix_cache.
ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "VLLM_SERVER_DEV_MODE": "1"}


@contextmanager
def serving_vllm(python: Path, model: Path, log: Path, *options: str) -> Iterator[RealEngine]:
    """vLLM with the tiny model, a KV cache of `KV_TOKENS` tokens and these further options."""
    port = free_port()
    command = [str(python), "-W", "ignore", "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port), "--load-format", "dummy"]
    command += ["--dtype", "float32", "--enforce-eager", "--distributed-executor-backend", "uni"]
    command += ["--max-model-len", str(CONTEXT_TOKENS), "--block-size", str(BLOCK_TOKENS)]
    command += ["--kv-cache-memory-bytes", str(KV_BYTES), "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    with serving([*command, *options], port, log, ENVIRONMENT) as engine:
        yield engine


def send_together(engine: RealEngine, requests: Sequence[dict[str, Any]]) -> list[Stream]:
    """Streams of all requests, in this order and scheduled from the same step on (none of them before the last has come)."""
    _ask(engine, "/pause?mode=keep")
    streams = []
    for request in requests:
        streams.append(Stream(engine.url, return_token_ids=True, **request))
        time.sleep(0.05)
    _ask(engine, "/resume")
    return streams


def forget_prefixes(engine: RealEngine) -> None:
    """An empty prefix cache; waits for what was just aborted to let go of its blocks."""
    for _ in range(50):
        if _ask(engine, "/reset_prefix_cache")["success"]:
            return
        time.sleep(0.1)
    raise TimeoutError("the prefix cache could not be reset: some request still runs")


def _ask(engine: RealEngine, path: str) -> Any:
    status, answer = engine.post(path)
    assert status == 200, (path, status, answer)
    return answer
