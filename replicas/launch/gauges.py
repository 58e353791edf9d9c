"""Reads vLLM's and SGLang's `/metrics` into one set of gauges and counters. It knows neither time nor HTTP."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine says of itself at one moment; the last four count from its start, over all its ranks.

    SGLang has no counter of tokens looked up: its prompt tokens take that place, as a share of which it counts cached ones.
    """

    running: int
    waiting: int
    kv_used: float
    prefix_hit_tokens: int
    prefix_query_tokens: int
    preemptions: int


@dataclass(frozen=True, slots=True)
class _Names:
    """The names of each gauge, newest first. A counter with labels does not exist before it first counts."""

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    kv_used: tuple[str, ...]
    hits: tuple[str, ...]
    queries: tuple[str, ...]
    preemptions: tuple[str, ...]


_NAMES = {
    "vllm": _Names(
        ("vllm:num_requests_running",),
        ("vllm:num_requests_waiting",),
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
        ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
        ("vllm:num_preemptions_total",),
    ),
    "sglang": _Names(
        ("sglang:num_running_reqs",),
        ("sglang:num_queue_reqs",),
        ("sglang:token_usage",),
        ("sglang:cached_tokens_total",),
        ("sglang:prompt_tokens_total",),
        ("sglang:num_retracted_requests_total",),
    ),
}


def engine_of(exposition: str) -> str | None:
    """Whose metrics these are: vllm, sglang, or None."""
    return next((engine for engine in _NAMES if f"\n{engine}:" in f"\n{exposition}"), None)


def read(exposition: str, engine: str) -> Reading:
    """ValueError naming the gauge that is missing; a missing counter is 0. KV use is the mean of an engine's ranks."""
    names = _NAMES[engine]
    series = _series(exposition, f"{engine}:")
    return Reading(
        running=round(sum(_gauge(series, names.running))),
        waiting=round(sum(_gauge(series, names.waiting))),
        kv_used=sum(values := _gauge(series, names.kv_used)) / len(values),
        prefix_hit_tokens=_counter(series, names.hits),
        prefix_query_tokens=_counter(series, names.queries),
        preemptions=_counter(series, names.preemptions),
    )


def _series(exposition: str, prefix: str) -> dict[str, list[float]]:
    """name → the values of all its label sets."""
    found: dict[str, list[float]] = {}
    for line in exposition.splitlines():
        if line.startswith(prefix):
            name, _, value = line.rpartition(" ")
            try:
                found.setdefault(name.partition("{")[0], []).append(float(value))
            except ValueError:
                continue
    return found


def _gauge(series: Mapping[str, list[float]], names: tuple[str, ...]) -> list[float]:
    for name in names:
        if name in series:
            return series[name]
    raise ValueError(f"/metrics has no {' or '.join(names)} (SGLang shows it with --enable-metrics)")


def _counter(series: Mapping[str, list[float]], names: tuple[str, ...]) -> int:
    return next((round(sum(series[name])) for name in names if name in series), 0)


class SinceStart:
    """Counters from the start of a cell, over restarts: an engine that comes back cold counts from 0 again."""

    def __init__(self, first: Reading) -> None:
        self._last, self._base = _counters(first), _counters(first)

    def counters(self, reading: Reading) -> tuple[int, int, int]:
        """(hit tokens, query tokens, preemptions) since the first reading; never falls."""
        now = _counters(reading)
        if any(value < last for value, last in zip(now, self._last, strict=True)):
            self._base = tuple(base - last for base, last in zip(self._base, self._last, strict=True))
        self._last = now
        hits, queries, preemptions = (value - base for value, base in zip(now, self._base, strict=True))
        return hits, queries, preemptions


def _counters(reading: Reading) -> tuple[int, ...]:
    return reading.prefix_hit_tokens, reading.prefix_query_tokens, reading.preemptions
