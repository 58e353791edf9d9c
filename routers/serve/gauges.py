"""Reads a replica's own gauges from its `/metrics` text, vLLM's or SGLang's. It does not fetch them."""

from replicas.view import Observation

_WAITING = (b"vllm:num_requests_waiting", b"sglang:num_queue_reqs")
_RUNNING = (b"vllm:num_requests_running", b"sglang:num_running_reqs")
_KV_USED = (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc", b"sglang:token_usage")
_LATENCY = (b"stampede:latency_seconds",)


def read_gauges(text: bytes, round_trip_s: float) -> Observation | None:
    """Of several engines behind one replica, requests are added up and KV use is the mean; None where a gauge is missing."""
    text = b"\n" + text
    waiting, running, kv_used = (_values(text, names) for names in (_WAITING, _RUNNING, _KV_USED))
    if not waiting or not running or not kv_used:
        return None
    latency = _values(text, _LATENCY)
    return Observation(
        int(sum(waiting)), int(sum(running)), sum(kv_used) / len(kv_used), max(latency) if latency else round_trip_s
    )


def _values(text: bytes, names: tuple[bytes, ...]) -> list[float]:
    """All samples of the first of these metrics that is there."""
    for name in names:
        values: list[float] = []
        at = text.find(b"\n" + name)
        while at >= 0:
            end = text.find(b"\n", at + 1)
            line = text[at + 1 : end if end >= 0 else len(text)]
            if line[len(name) : len(name) + 1] in (b"{", b" "):
                values.append(_value(line))
            at = text.find(b"\n" + name, at + 1)
        finite = [v for v in values if 0 <= v < 1e12]
        if finite:
            return finite
    return []


def _value(line: bytes) -> float:
    """The number of one sample; NaN where it is none (a time stamp may follow it)."""
    rest = line.rpartition(b"}")[2] if b"{" in line else line.partition(b" ")[2]
    try:
        return float(rest.split()[0])
    except (ValueError, IndexError):
        return float("nan")
