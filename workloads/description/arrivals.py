"""What a series of event times is like: rate, burstiness at several scales, course over time. It does not know what arrives."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

WINDOWS_S = (1, 10, 60)
_MOST_BINS = 400
_NICE_S = (0.001, 0.01, 0.1, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_FEWEST_WINDOWS = 12
_DAY_S = 86_400.0
_YEAR_2000_S = 946_684_800.0


def arrival_statistics(times_s: Floats) -> dict[str, Any]:
    """Rate, gaps and dispersion of ascending times (any origin, seconds); None where the series is too short to say.

    `rate_rps` is n / span. `gap_cv` is the population's; `gap_acf1` the correlation of neighbouring gaps. `iod_Ws` is the
    variance over the mean of the counts in whole windows of W seconds from the first event, `peak_to_mean_Ws` their maximum over
    their mean. `median_5min_cv` is the median over the windows of 5 minutes of the CV of the gaps inside a window.
    """
    times = times_s - times_s[0]
    span_s = float(times[-1])
    gaps = np.diff(times)
    made: dict[str, Any] = {"n": len(times), "span_s": span_s, "rate_rps": len(times) / span_s if span_s else None}
    made["gap_mean_s"] = float(gaps.mean()) if len(gaps) else None
    made["gap_cv"] = float(gaps.std() / gaps.mean()) if span_s else None
    made["zero_gap_share"] = float((gaps == 0).mean()) if len(gaps) else None
    made["unique_times"] = int((gaps > 0).sum()) + 1
    for window_s in WINDOWS_S:
        counts = window_counts(times, window_s)
        made[f"iod_{window_s}s"] = _dispersion(counts)
        made[f"peak_to_mean_{window_s}s"] = float(counts.max() / counts.mean()) if len(counts) > 1 and counts.any() else None
    made["gap_acf1"] = _neighbour_correlation(gaps)
    made["median_5min_cv"] = _median_window_cv(times, gaps, 300.0)
    return made


def index_of_dispersion(times_s: Floats, window_s: float) -> float | None:
    """Variance over mean of the counts in whole windows from time 0; None with fewer than two windows."""
    return _dispersion(window_counts(times_s, window_s))


def window_counts(times_s: Floats, window_s: float, span_s: float | None = None) -> Ints:
    """Events a whole window of ascending times, from time 0 on; the last window has its end too.

    They lie before `span_s`, or, where that is not given, end before the last event.
    """
    windows = int(np.ceil(times_s[-1] / window_s)) - 1 if span_s is None else int(span_s / window_s + 1e-9)
    if windows < 1:
        return np.zeros(0, dtype=np.int64)
    edges = np.arange(windows + 1) * window_s
    place = np.searchsorted(times_s, edges, side="left")
    place[-1] = np.searchsorted(times_s, edges[-1], side="right")
    return np.asarray(np.diff(place))


def _dispersion(counts: Ints) -> float | None:
    return float(counts.var() / counts.mean()) if len(counts) > 1 and counts.any() else None


def _neighbour_correlation(gaps: Floats) -> float | None:
    if len(gaps) < 3:
        return None
    before, after = gaps[:-1] - gaps[:-1].mean(), gaps[1:] - gaps[1:].mean()
    scale = float(np.dot(before, before)) * float(np.dot(after, after))
    return float(np.dot(before, after)) / scale**0.5 if scale > 0 else None


def _median_window_cv(times: Floats, gaps: Floats, window_s: float) -> float | None:
    """The last, partial window counts too; windows with fewer than two gaps do not."""
    place = np.searchsorted(times, np.arange(int(times[-1] // window_s) + 2) * window_s)
    cvs = []
    for first, stop in zip(place[:-1].tolist(), place[1:].tolist(), strict=True):
        inside = gaps[first : stop - 1]
        if len(inside) > 1 and inside.any():
            cvs.append(float(inside.std() / inside.mean()))
    return float(np.median(cvs)) if cvs else None


def dispersion_curve(times_s: Floats) -> dict[str, list[float]]:
    """IoD against the window, from a few events a window to a dozen windows in the trace: `window_s`, `iod`."""
    times = times_s - times_s[0]
    span_s, curve = float(times[-1]), {"window_s": list[float](), "iod": list[float]()}
    if not span_s:
        return curve
    shortest, longest = max(1e-3, 0.1 * span_s / len(times), span_s / 5e6), span_s / _FEWEST_WINDOWS
    if longest <= shortest:
        return curve
    for window_s in np.geomspace(shortest, longest, 30).tolist():
        found = index_of_dispersion(times, window_s)
        if found is not None:
            curve["window_s"].append(window_s)
            curve["iod"].append(found)
    return curve


def rate_series(times_s: Floats, first_s: float | None) -> dict[str, Any] | None:
    """Events a second in at most 400 equal bins from the first event: `bin_s`, `rate_rps`, and `start_utc` where it is dated.

    A last bin that the trace does not fill is left out. `first_s` is the first event in Unix seconds, or None.
    """
    times = times_s - times_s[0]
    span_s = float(times[-1])
    if not span_s:
        return None
    least_s = max(span_s / _MOST_BINS, 2 * span_s / len(times))
    bin_s = next((b for b in _NICE_S if b >= least_s), float(np.ceil(least_s / _DAY_S)) * _DAY_S)
    counts = window_counts(times, bin_s)
    if not len(counts):
        return None
    return {"bin_s": float(bin_s), "start_utc": utc(first_s), "rate_rps": (counts / bin_s).tolist()}


def hour_profile(times_s: Floats, first_s: float | None) -> dict[str, Any] | None:
    """Mean events a second in each hour of the day (UTC where the trace is dated, else from its first event); None below 2 days.

    `hours_seen` is how many hours of the trace each mean rests on.
    """
    times = times_s - times_s[0]
    offset_s = first_s % _DAY_S if first_s is not None else 0.0
    if times[-1] <= 2 * _DAY_S:
        return None
    edges = np.arange(int((times[-1] + offset_s) // 3600) + 2) * 3600.0 - offset_s
    counts = np.diff(np.searchsorted(times, edges))
    length_s = np.clip(np.minimum(edges[1:], times[-1]) - np.maximum(edges[:-1], 0.0), 0.0, None)
    hour = np.arange(len(counts)) % 24
    seen_s = np.bincount(hour, weights=length_s, minlength=24)
    rate = np.bincount(hour, weights=counts, minlength=24) / seen_s
    return {"dated": first_s is not None, "rate_rps": rate.tolist(), "hours_seen": (seen_s / 3600).tolist()}


def unix_seconds(first_start_us: int | None) -> float | None:
    """The first event's Unix time where the source's clock is one (after the year 2000)."""
    first_s = None if first_start_us is None else first_start_us / 1e6
    return first_s if first_s is not None and first_s >= _YEAR_2000_S else None


def utc(first_s: float | None) -> str | None:
    return None if first_s is None else datetime.fromtimestamp(first_s, UTC).isoformat(timespec="seconds")
