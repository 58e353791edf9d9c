"""How SGLang is started on a CPU for tests, and held still so that requests meet in one step. It knows no scenario."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replicas.launch.sglang import CPU_SCRIPT
from tests.engines.launch import RealEngine, free_port, serving
from tests.engines.stream import Stream

KV_TOKENS = 4096
CONTEXT_TOKENS = 2048
MAX_RUNNING = 8
MAX_QUEUED = 6
CHUNK_TOKENS = 512
CONSERVATIVENESS = 0.1  # so low that more is admitted than fits, and something must be retracted


@contextmanager
def serving_sglang(python: Path, model: Path, log: Path, *options: str) -> Iterator[RealEngine]:
    """SGLang with the tiny model, pages of one token, a KV cache of `KV_TOKENS` tokens and these further options."""
    port = free_port()
    command = [str(python), "-W", "ignore", str(CPU_SCRIPT), "--model-path", str(model), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load-format", "dummy", "--dtype", "float32", "--device", "cpu"]
    command += ["--attention-backend", "torch_native", "--sampling-backend", "pytorch", "--disable-overlap-schedule"]
    command += ["--disable-cuda-graph", "--context-length", str(CONTEXT_TOKENS), "--max-total-tokens", str(KV_TOKENS)]
    command += ["--max-running-requests", str(MAX_RUNNING), "--max-queued-requests", str(MAX_QUEUED)]
    command += ["--chunked-prefill-size", str(CHUNK_TOKENS), "--enable-metrics", "--enable-cache-report", "--sleep-on-idle"]
    command += ["--decode-log-interval", "1", "--schedule-conservativeness", str(CONSERVATIVENESS)]
    with serving([*command, *options], port, log, {"SGLANG_USE_CPU_ENGINE": "1"}) as engine:
        yield engine


def send_together(engine: RealEngine, requests: Sequence[dict[str, Any]]) -> list[Stream]:
    """Streams of all requests, in this order, none of them scheduled before the last has come.

    Lengths are fixed by forbidding the end token: `ignore_eos` would change how SGLang reserves memory.
    """
    _ask(engine, "/pause_generation", {"mode": "in_place"})
    streams = []
    for request in requests:
        streams.append(stream_of(engine, **request))
        time.sleep(0.05)
    _ask(engine, "/continue_generation", {})
    return streams


def stream_of(engine: RealEngine, prompt: list[int], max_tokens: int) -> Stream:
    return Stream(engine.url, prompt, max_tokens, ignore_eos=False, logit_bias={"2": -100.0})


def forget_prefixes(engine: RealEngine) -> None:
    """An empty radix tree; waits for what was just aborted to let go of its memory."""
    for _ in range(50):
        if engine.post("/flush_cache")[0] == 200:
            return
        time.sleep(0.1)
    raise TimeoutError("the cache could not be flushed: some request still runs")


def _ask(engine: RealEngine, path: str, body: dict[str, Any]) -> None:
    status, answer = engine.post(path, body)
    assert status == 200, (path, status, answer)
