"""How vLLM's API server speaks (0.26 to 0.32; looked up on a running one). It knows no SGLang.

`/reset_prefix_cache` needs no developer mode here.
"""

from typing import Any

from replicas.served.api_error import ApiError
from replicas.served.dialects.dialect import Gauges
from replicas.served.exposition import counter, family, gauge, histogram
from replicas.served.meter import Bounds, Meter

_SHORT_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TTFT = (*_SHORT_TTFT, 160.0, 640.0, 2560.0)
_GAP = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_SHORT_E2E = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
_E2E = (*_SHORT_E2E, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
_TOKENS = tuple(float(m * 10**n) for n in range(8) for m in (1, 2, 5))  # up to the context
_REASONS = ("stop", "length", "abort", "error", "repetition")


_PATHS: dict[str, tuple[str, ...]] = {
    "/load": ("GET",),
    "/ping": ("GET", "POST"),
    "/version": ("GET",),
    "/tokenize": ("POST",),
    "/detokenize": ("POST",),
    "/reset_prefix_cache": ("POST",),
}


class Vllm:
    """Clamps the output at the context; refuses an unknown model; `max_num_queued_reqs` answers 503."""

    name = owner = "vllm"
    guarded = False
    paths = _PATHS

    def meter(self, context_tokens: int) -> Meter:
        tokens = tuple(bound for bound in _TOKENS if bound <= context_tokens)
        return Meter(Bounds(_TTFT, _GAP, _E2E, _E2E, tokens))

    def error(self, error: ApiError, path: str = "") -> dict[str, Any]:
        if error.status == 401:
            return {"error": "Unauthorized"}
        return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.status}}

    def error_event(self, error: ApiError) -> dict[str, Any]:
        return self.error(error)

    def unknown_model(self, model: str, served: str) -> ApiError | None:
        return ApiError(404, f"The model `{model}` does not exist. Valid aliases: {served}.", param="model")

    def output_tokens(self, prompt_tokens: int, max_tokens: int | None, context_tokens: int) -> int:
        room = context_tokens - prompt_tokens
        if room < 1:
            message = (
                f"This model's maximum context length is {context_tokens} tokens. However, your prompt contains {prompt_tokens} "
                f"input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input "
                f"prompt. (parameter=input_tokens, value={prompt_tokens})"
            )
            raise ApiError(400, message, param="input_tokens")
        return room if max_tokens is None else min(max_tokens, room)

    def refused(self, status: int) -> ApiError:
        if status != 503:
            return ApiError(status, "The engine refused the request.")
        busy = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."
        return ApiError(503, busy, "Service Unavailable")

    def loads(self, gauges: Gauges) -> dict[str, Any]:
        return {"server_load": gauges.open}

    def metrics(self, gauges: Gauges) -> list[str]:
        engine, meter, counts = gauges.engine, gauges.meter, gauges.engine.counters
        labels = {"engine": "0", "model_name": gauges.model}
        waiting = engine.waiting
        cache = {
            "block_size": str(engine.profile.block_tokens),
            "enable_prefix_caching": "True",
            "engine": "0",
            "kv_cache_size_tokens": str(engine.profile.kv_blocks * engine.profile.block_tokens),
            "num_gpu_blocks": str(engine.profile.kv_blocks),
        }
        by_reason = [({**labels, "reason": "capacity"}, float(waiting)), ({**labels, "reason": "deferred"}, 0.0)]
        by_end = [({**labels, "finished_reason": reason}, float(meter.ends[reason])) for reason in _REASONS]
        by_source = [
            ({**labels, "source": "local_compute"}, float(meter.prompt_tokens - meter.cached_tokens)),
            ({**labels, "source": "local_cache_hit"}, float(meter.cached_tokens)),
        ]
        return [
            *gauge("vllm:num_requests_running", "Number of requests in model execution batches.", engine.running, labels),
            *gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", waiting, labels),
            *family("vllm:num_requests_waiting_by_reason", "Number of waiting requests by reason.", "gauge", by_reason),
            *gauge(
                "vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", engine.kv_used(gauges.own_s), labels
            ),
            *counter("vllm:prefix_cache_queries_total", "Prefix cache queries, in tokens.", counts.prefix_query_tokens, labels),
            *counter("vllm:prefix_cache_hits_total", "Prefix cache hits, in tokens.", counts.prefix_hit_tokens, labels),
            *counter("vllm:num_preemptions_total", "Cumulative number of preemptions.", counts.preemptions, labels),
            *counter("vllm:prompt_tokens_total", "Number of prefill tokens processed.", meter.prompt_tokens, labels),
            *family("vllm:prompt_tokens_by_source_total", "Number of prompt tokens by source.", "counter", by_source),
            *counter("vllm:prompt_tokens_cached_total", "Number of cached prompt tokens.", meter.cached_tokens, labels),
            *counter("vllm:generation_tokens_total", "Number of generation tokens processed.", gauges.made_tokens, labels),
            *family("vllm:request_success_total", "Count of successfully processed requests.", "counter", by_end),
            *counter("vllm:admission_rejections_total", "Requests refused at admission.", counts.refusals, labels),
            *_histograms(meter, labels),
            *family("vllm:cache_config_info", "Information of the LLMEngine CacheConfig", "gauge", [(cache, 1.0)]),
        ]


def _histograms(meter: Meter, labels: dict[str, str]) -> list[str]:
    return [
        *histogram("vllm:request_prompt_tokens", "Number of prefill tokens processed.", meter.prompt, labels),
        *histogram("vllm:request_generation_tokens", "Number of generation tokens processed.", meter.made, labels),
        *histogram("vllm:request_params_max_tokens", "The max_tokens request parameter.", meter.asked, labels),
        *histogram("vllm:request_prefill_kv_computed_tokens", "New KV tokens in prefill.", meter.uncached, labels),
        *histogram("vllm:time_to_first_token_seconds", "Time to first token in seconds.", meter.ttft_s, labels),
        *histogram("vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", meter.gap_s, labels),
        *histogram("vllm:request_time_per_output_token_seconds", "Time per output token.", meter.tpot_s, labels),
        *histogram("vllm:e2e_request_latency_seconds", "E2E request latency in seconds.", meter.e2e_s, labels),
        *histogram("vllm:request_queue_time_seconds", "Time in the queue.", meter.queue_s, labels),
        *histogram("vllm:request_inference_time_seconds", "Time in the batch.", meter.inference_s, labels),
        *histogram("vllm:request_prefill_time_seconds", "Time up to the first token.", meter.prefill_s, labels),
        *histogram("vllm:request_decode_time_seconds", "Time after the first token.", meter.decode_s, labels),
    ]
