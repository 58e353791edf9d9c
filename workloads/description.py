"""What a trace is like, in numbers: arrivals, lengths, turns, reuse, tenants. It does not know what will be sent."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.content import prompts
from workloads.conversation import Trace
from workloads.request import extend_key

Floats = npt.NDArray[np.float64]
_QUANTILES = (50, 90, 99)


def describe(trace: Trace) -> dict[str, Any]:
    """Counts and statistics under fixed keys; arrival statistics are None for a trace without timestamps.

    Input tokens are a turn's whole prompt, history included. Percentiles interpolate linearly.
    """
    lengths = [(sum(s.tokens for s in segments), out) for _, segments, _, out in _turns(trace)]
    per_session = [len(c.turns) for c in trace.conversations]
    starts = [c.start_s for c in trace.conversations if c.start_s is not None] if trace.has_timestamps else []
    return {
        "source": trace.source,
        "synthetic": trace.provenance["synthetic"],
        "sessions": len(trace.conversations),
        "turns": trace.turn_count,
        "tenants": len({c.tenant for c in trace.conversations}),
        "top_10_tenants_share": _top_share([c.tenant for c in trace.conversations], 10),
        "turns_per_session": spread(per_session),
        "input_tokens": spread([n for n, _ in lengths]),
        "user_tokens": spread([t.user_tokens for c in trace.conversations for t in c.turns]),
        "output_tokens": spread([n for _, n in lengths]),
        "think_s": spread([t.think_s for c in trace.conversations for t in c.turns if t.think_s is not None]),
        "prefix_reuse": prefix_reuse(trace),
        "arrivals": arrival_statistics(np.array(starts)) if len(starts) > 1 else None,
        "provenance": dict(trace.provenance),
    }


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Mean, p50, p90, p99 and maximum; None without values."""
    data = np.array(list(values), dtype=np.float64)
    if not len(data):
        return None
    quantiles = {f"p{q}": float(v) for q, v in zip(_QUANTILES, np.percentile(data, _QUANTILES), strict=True)}
    return {"mean": float(data.mean()), **quantiles, "max": float(data.max())}


def arrival_statistics(times_s: Floats) -> dict[str, float | None]:
    """Rate = n / span, CV of the gaps, and the index of dispersion (variance / mean of counts) at 1, 10 and 60 s.

    Times ascend. Counts use whole windows from the first event; fewer than two windows give None.
    """
    times = times_s - times_s[0]
    gaps = np.diff(times)
    span_s = float(times[-1])
    made: dict[str, float | None] = {"span_s": span_s, "rate_rps": len(times) / span_s if span_s else None}
    made["gap_cv"] = float(gaps.std() / gaps.mean()) if span_s else None
    for window_s in (1, 10, 60):
        made[f"iod_{window_s}s"] = index_of_dispersion(times, window_s)
    return made


def index_of_dispersion(times_s: Floats, window_s: float) -> float | None:
    """Variance over mean of the counts in whole windows from time 0; None with fewer than two windows."""
    windows = int(times_s[-1] // window_s)
    if windows < 2:
        return None
    counts = np.bincount((times_s[times_s < windows * window_s] // window_s).astype(np.int64), minlength=windows)
    return float(counts.var() / counts.mean()) if counts.any() else None


def prefix_reuse(trace: Trace) -> float:
    """Share of input tokens that an infinite prefix cache holds already, in trace order, replies cached as they are made."""
    seen: set[int] = set()
    hit = total = 0
    for _, segments, reply_id, _ in _turns(trace):
        key = 0
        cached = True
        for segment in segments:
            key = extend_key(key, segment.content_id)
            total += segment.tokens
            cached = cached and key in seen
            if cached:
                hit += segment.tokens
            else:
                seen.add(key)
        seen.add(extend_key(key, reply_id))
    return hit / total if total else 0.0


def _turns(trace: Trace) -> Iterable[tuple[int, tuple[Any, ...], int, int]]:
    for index, conversation in enumerate(trace.conversations):
        for segments, reply_id, output_tokens in prompts(conversation, index):
            yield index, segments, reply_id, output_tokens


def _top_share(tenants: list[int], n: int) -> float | None:
    if not tenants:
        return None
    counts = sorted(np.bincount(np.array(tenants, dtype=np.int64)).tolist(), reverse=True)
    return float(sum(counts[:n]) / len(tenants))
