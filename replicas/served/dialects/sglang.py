"""How SGLang's server speaks (0.5.15 to 0.5.23). It knows no vLLM.

A token id outside the vocabulary, which kills the real server, is a 400 here. Metrics are not told apart by `is_streaming`, and
the latency of stages is not told.
"""

import time
from datetime import UTC, datetime
from typing import Any

from replicas.served.api_error import ApiError
from replicas.served.dialects.dialect import Gauges, share
from replicas.served.exposition import counter, family, gauge, histogram
from replicas.served.meter import Bounds, Meter

_TTFT = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
_SHORT_GAP = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1)
_GAP = (*_SHORT_GAP, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0)
_E2E = (*_TTFT, 600.0, 1200.0, 1800.0, 2400.0)
_SHORT_QUEUE = (0.0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 15.0, 20.0)
_TENS, _HUNDREDS = (float(s) for s in range(30, 101, 10)), (float(s) for s in range(200, 1001, 100))
_QUEUE = (*_SHORT_QUEUE, *_TENS, *_HUNDREDS, 1200.0, 1400.0, 1600.0, 1800.0, 2000.0, 2500.0, 3000.0)
_THOUSANDS = (0.1, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12.5, 15, 17.5, 20, 22.5, 25, 27.5, 30, 35, 40, 60, 80)
_TOKENS = (*(1000.0 * n for n in _THOUSANDS), 1e5, 2e5, 3e5, 4e5, 6e5, 8e5, 1e6, 1.1e6)
_KINDS = {400: "BadRequestError", 404: "NotFoundError", 429: "RateLimitError", 503: "SERVICE_UNAVAILABLE"}


_PATHS: dict[str, tuple[str, ...]] = {
    "/generate": ("POST",),
    "/health_generate": ("GET",),
    "/get_server_info": ("GET",),
    "/server_info": ("GET",),
    "/get_model_info": ("GET",),
    "/model_info": ("GET",),
    "/v1/loads": ("GET",),
    "/get_load": ("GET",),
    "/flush_cache": ("GET", "POST"),
    "/tokenize": ("POST",),
    "/v1/tokenize": ("POST",),
    "/detokenize": ("POST",),
    "/v1/detokenize": ("POST",),
}


class Sglang:
    """Refuses what is longer than the context; serves whatever model is asked for; a full queue answers 503."""

    name = owner = "sglang"
    guarded = True
    paths = _PATHS

    def meter(self, context_tokens: int) -> Meter:
        return Meter(Bounds(_TTFT, _GAP, _E2E, _QUEUE, _TOKENS))

    def error(self, error: ApiError, path: str = "") -> dict[str, Any]:
        if error.status == 401:
            return {"error": "Unauthorized"}
        if path == "/generate":
            return {"error": {"message": error.message}}
        kind = _KINDS.get(error.status, error.kind)
        return {"object": "error", "message": error.message, "type": kind, "param": error.param, "code": error.status}

    def error_event(self, error: ApiError) -> dict[str, Any]:
        return {"error": self.error(error)}

    def unknown_model(self, model: str, served: str) -> ApiError | None:
        return None

    def output_tokens(self, prompt_tokens: int, max_tokens: int | None, context_tokens: int) -> int:
        if prompt_tokens >= context_tokens:
            message = f"The input ({prompt_tokens} tokens) is longer than the model's context length ({context_tokens} tokens)."
            raise ApiError(400, message)
        if max_tokens is None:
            return context_tokens - prompt_tokens
        total = prompt_tokens + max_tokens
        if total > context_tokens:
            message = (
                f"Requested token count exceeds the model's maximum context length of {context_tokens} tokens. You requested a "
                f"total of {total} tokens: {prompt_tokens} tokens from the input messages and {max_tokens} tokens for the "
                f"completion. Please reduce the number of tokens in the input messages or the completion to fit within the limit."
            )
            raise ApiError(400, message)
        return max_tokens

    def refused(self, status: int) -> ApiError:
        return ApiError(status, "The request queue is full." if status == 503 else "The request was refused.")

    def loads(self, gauges: Gauges) -> dict[str, Any]:
        engine = gauges.engine
        capacity = engine.profile.kv_blocks * engine.profile.block_tokens
        used = engine.kv_used(gauges.own_s)
        now_s = time.time()
        load = {
            "timestamp": now_s,
            "dp_rank": 0,
            "num_running_reqs": engine.running,
            "num_waiting_reqs": engine.waiting,
            "num_total_reqs": engine.running + engine.waiting,
            "num_waiting_uncached_tokens": engine.waiting_tokens,
            "num_used_tokens": round(used * capacity),
            "num_total_tokens": round(used * capacity) + engine.waiting_tokens,
            "max_total_num_tokens": capacity,
            "token_usage": used,
            "utilization": engine.running / engine.profile.max_running,
            "cache_hit_rate": share(engine.counters.prefix_hit_tokens, engine.counters.prefix_query_tokens),
            "max_running_requests": engine.profile.max_running,
            "memory": {"token_capacity": capacity},
            "disaggregation": {"mode": "null"},
            "queues": {"waiting": engine.waiting, "grammar": 0, "paused": 0, "retracted": 0},
        }
        names = ("num_running_reqs", "num_waiting_reqs", "num_total_reqs", "num_used_tokens", "token_usage")
        total = {f"total_{name}" if name.endswith("reqs") else name: load[name] for name in names}
        return {
            "timestamp": datetime.fromtimestamp(now_s, UTC).isoformat(),
            "version": engine.profile.engine_version,
            "dp_rank_count": 1,
            "loads": [load],
            "aggregate": total,
        }

    def metrics(self, gauges: Gauges) -> list[str]:
        engine, meter, counts = gauges.engine, gauges.meter, gauges.engine.counters
        few = {"engine_type": "unified", "model_name": gauges.model}
        labels = {**few, "moe_ep_rank": "0", "pp_rank": "0", "tp_rank": "0"}
        page, cache = engine.profile.block_tokens, engine.cache
        capacity, used = engine.profile.kv_blocks * page, engine.kv_used(gauges.own_s)
        hit_rate = share(counts.prefix_hit_tokens, counts.prefix_query_tokens)
        by_cache = [({**few, "cache_source": "device"}, float(meter.cached_tokens))]
        n_requests = sum(meter.ends.values())
        return [
            *counter("sglang:prompt_tokens_total", "Number of prefill tokens processed.", meter.prompt_tokens, few),
            *counter("sglang:generation_tokens_total", "Number of generation tokens processed.", gauges.made_tokens, few),
            *family("sglang:cached_tokens_total", "Number of cached prompt tokens.", "counter", by_cache),
            *counter("sglang:num_requests_total", "Number of requests processed.", n_requests, few),
            *gauge("sglang:num_running_reqs", "The number of running requests.", engine.running, labels),
            *gauge("sglang:num_queue_reqs", "The number of requests in the waiting queue.", engine.waiting, labels),
            *gauge("sglang:num_used_tokens", "The number of used tokens.", round(used * capacity), labels),
            *gauge("sglang:token_usage", "The token usage.", used, labels),
            *gauge("sglang:cache_hit_rate", "The prefix cache hit rate.", hit_rate, labels),
            *gauge("sglang:num_retracted_reqs", "The number of retracted requests.", counts.preemptions, labels),
            *gauge("sglang:max_total_num_tokens", "Maximum total number of tokens in the KV cache pool.", capacity, labels),
            *gauge("sglang:page_size", "KV cache page size in tokens.", page, labels),
            *gauge("sglang:num_pages", "Number of KV cache pages.", engine.profile.kv_blocks, labels),
            *gauge("sglang:context_len", "Maximum context length.", engine.profile.context_tokens, labels),
            *gauge("sglang:kv_available_tokens", "Number of free token slots.", cache.free * page, labels),
            *gauge("sglang:kv_evictable_tokens", "Number of evictable token slots.", cache.evictable * page, labels),
            *gauge("sglang:kv_used_tokens", "Number of actively used token slots.", round(used * capacity), labels),
            *histogram("sglang:time_to_first_token_seconds", "Time to first token in seconds.", meter.ttft_s, few),
            *histogram("sglang:inter_token_latency_seconds", "Inter-token latency in seconds.", meter.gap_s, few),
            *histogram("sglang:request_time_per_output_token_seconds", "Time per output token.", meter.tpot_s, few),
            *histogram("sglang:e2e_request_latency_seconds", "End-to-end request latency in seconds", meter.e2e_s, few),
            *histogram("sglang:queue_time_seconds", "Time in the queue.", meter.queue_s, labels),
            *histogram("sglang:prompt_tokens_histogram", "Histogram of prompt token length.", meter.prompt, few),
            *histogram("sglang:uncached_prompt_tokens_histogram", "Uncached prompt token length.", meter.uncached, few),
            *histogram("sglang:generation_tokens_histogram", "Histogram of generation token length.", meter.made, few),
        ]
