"""Statistics of a trace, worked out here with numpy and nothing of the program's own, to compare with published digits."""

from typing import Any

import numpy as np

from workloads.trace_table import Trace


def arrivals(trace: Trace) -> dict[str, float]:
    """Rate, CV of the gaps, and variance over mean of the counts in whole windows of 1, 10 and 60 s."""
    times = trace.start_s - trace.start_s[0]
    gaps = np.diff(times)
    made = {"n": len(times), "span_s": times[-1], "rate_rps": len(times) / times[-1], "iat_cv": gaps.std() / gaps.mean()}
    for window_s in (1, 10, 60):
        whole = int(times[-1] // window_s)
        counts = np.histogram(times, bins=np.arange(whole + 1) * window_s)[0]
        made[f"IoD_{window_s}s"] = counts.var() / counts.mean()
    return {key: float(value) for key, value in made.items()}


def percentiles(values: Any, *wanted: float) -> list[float]:
    return [float(p) for p in np.percentile(values, wanted)]
