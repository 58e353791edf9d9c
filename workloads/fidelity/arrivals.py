"""Session starts compared: rate, burstiness, gaps, and the load that was planned. It knows no contents."""

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.arrivals import mean_factor
from workloads.description.arrivals import WINDOWS_S, window_counts
from workloads.fidelity.rows import CHANCE, distance_row, explained, row
from workloads.fidelity.samples import Sample, ks_distance
from workloads.fidelity.scene import Scene

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[Any]
_BLOCKS = 10
_FEWEST_WINDOWS = 8


def arrival_rows(scene: Scene) -> list[dict[str, Any]]:
    """Rate against the trace and the plan, CV of the gaps, index of dispersion at 1, 10 and 60 s, the gaps as a whole."""
    starts_s, clock = scene.starts_s, scene.clock
    rows = [_rate_row(scene), *_planned_rows(scene)]
    if len(starts_s) < 3:
        return rows
    source_s = clock.starts_s if clock else None
    rows += [_cv_row(scene, source_s), *_dispersion_rows(scene, source_s), *_gap_rows(scene, source_s)]
    return explained(rows, lambda: _stretch(scene))


def _factor(scene: Scene) -> float | None:
    """Asked session rate over the trace's own; None without a clock."""
    return scene.number("session_rate_rps") / scene.clock.rate_rps if scene.clock else None


def _design(scene: Scene) -> str:
    """Why the trace's own burstiness is not wanted; empty where it is."""
    arrival = scene.plan.arrival
    if scene.clock is None:
        return "the trace has no times of its own"
    if arrival.get("process") != "trace":
        kind = arrival.get("process") or next(k for k in ("superpose", "concatenate") if k in arrival)
        return f"arrivals asked for: {kind}" + (", modulated" if arrival.get("modulate") else "")
    return "the trace’s own arrivals, but modulated" if arrival.get("modulate") else ""


def _compressed(scene: Scene) -> bool:
    return scene.plan.arrival.get("scale") == "compress"


def _rate_row(scene: Scene) -> dict[str, Any]:
    made, factor = len(scene.starts_s) / scene.horizon_s, _factor(scene)
    asked = f"load asked for: {scene.number('load_rps'):.4g} requests/s = {scene.number('session_rate_rps'):.4g} sessions/s"
    own = factor is not None and abs(factor - 1) <= 0.01
    return row(
        "sessions a second",
        scene.clock.rate_rps if scene.clock else None,
        made,
        unit="/s",
        noise=_count_noise(scene, scene.number("session_rate_rps") * scene.horizon_s),
        design="" if own else asked,
    )


def _planned_rows(scene: Scene) -> list[dict[str, Any]]:
    """Sessions and first attempts over what the plan's own load comes to, modulation included; the trigger is left out."""
    factor = mean_factor(scene.plan.arrival, 0.0, scene.horizon_s, scene.workload.seed)
    sessions = scene.number("session_rate_rps") * factor * scene.horizon_s
    requests = scene.number("load_rps") * factor * scene.horizon_s
    due = float(scene.sent_weight.sum() / len(scene.flat))
    lost = "" if due > 0.995 else f"later turns fall beyond the end of the run: {due:.0%} of a session’s turns come due in it"
    turns = scene.lengths.turns.astype(np.float64)
    clumps = float(np.square(turns).mean() / turns.mean())  # a session brings all its turns
    return [
        row("sessions, made over planned", 1.0, len(scene.starts_s) / sessions, noise=_count_noise(scene, sessions)),
        row(
            "requests, made over planned",
            due,
            len(scene.sent) / requests,
            noise=_count_noise(scene, requests / clumps) / due,
            why=lost,
        ),
    ]


def _burstiness(scene: Scene) -> float:
    """Index of dispersion of the made starts in 16 windows of the run: what one more such run would vary by."""
    counts = window_counts(scene.starts_s, scene.horizon_s / 16, scene.horizon_s) if len(scene.starts_s) else np.zeros(1)
    return float(counts.var(ddof=1) / counts.mean()) if len(counts) > 1 and counts.any() else 1.0


def _count_noise(scene: Scene, expected: float) -> float:
    return float(CHANCE * (max(_burstiness(scene), 1.0) / expected) ** 0.5)


def _stretch(scene: Scene) -> str:
    """That a run of the trace's own arrivals holds a part of the trace only, whose rate need not be the whole's."""
    if scene.clock is None or scene.plan.arrival.get("process") != "trace":
        return ""
    faster = (_factor(scene) or 1.0) if _compressed(scene) else 1.0
    span_s = scene.clock.span_s / faster
    if scene.horizon_s >= span_s:
        return ""
    return f"a stretch of {scene.horizon_s:,.0f} s of a trace of {span_s:,.0f} s, whose rate varies"


def _cv_row(scene: Scene, source_s: Floats | None) -> dict[str, Any]:
    made = np.diff(scene.starts_s)
    own = np.diff(source_s) if source_s is not None else None
    factor, design = _factor(scene), _design(scene)
    expected = _cv(own) if own is not None else None
    if not design and not _compressed(scene) and factor is not None and abs(factor - 1) > 0.01 and expected is not None:
        thinned = (1 + factor * (expected**2 - 1)) ** 0.5
        kept = f"sessions are kept with probability {factor:.3g}: independent gaps would have {thinned:.3g} then"
        design = kept if factor < 1 else f"{factor:.3g} times the users, overlaid: their gaps interleave"
    noise = CHANCE * (_error(made, _cv) ** 2 + (_error(own, _cv) if own is not None else 0.0) ** 2) ** 0.5
    return row("CV of the gaps", expected, _cv(made), noise=noise / expected if expected else None, design=design)


def _dispersion_rows(scene: Scene, source_s: Floats | None) -> list[dict[str, Any]]:
    rows, factor = [], _factor(scene) or 1.0
    for window_s in WINDOWS_S:
        own_window_s = window_s * factor if _compressed(scene) else window_s
        made = window_counts(scene.starts_s, window_s, scene.horizon_s)
        own = window_counts(source_s, own_window_s) if source_s is not None else np.zeros(0)
        name, design = f"index of dispersion, {window_s} s", _design(scene)
        few = f"only {min(len(made), len(own))} windows of {window_s} s to compare: too few"
        if source_s is not None and min(len(made), len(own)) < _FEWEST_WINDOWS:
            rows.append(row(name, _iod(own), _iod(made), design=few))
            continue
        expected, why = _expected_iod(scene, _iod(own), factor) if not design else (_iod(own), "")
        noise = None
        if expected and _iod(made) is not None and not design:
            noise = CHANCE * (_error(made, _iod) ** 2 + _error(own, _iod) ** 2) ** 0.5 / expected
        rows.append(row(name, expected, _iod(made), noise=noise, design=design, why=why))
    return rows


def _expected_iod(scene: Scene, own: float | None, factor: float) -> tuple[float | None, str]:
    """What thinning and overlaying make of it: 1 + p(IoD − 1) of a layer kept with probability p, layers adding up."""
    if own is None or _compressed(scene):
        return own, f"the trace’s at {factor:.3g} times the window, as it runs that much faster" if _compressed(scene) else ""
    whole = int(factor)
    expected = (whole * own + (factor - whole) * (1 + (factor - whole) * (own - 1))) / factor
    return expected, "" if abs(factor - 1) <= 0.01 else f"the trace has {own:.3g}; {factor:.3g} times its users make that"


def _gap_rows(scene: Scene, source_s: Floats | None) -> list[dict[str, Any]]:
    factor, design = _factor(scene), _design(scene)
    if source_s is None or factor is None or (not design and not _compressed(scene) and abs(factor - 1) > 0.01):
        return []
    own, made = (gaps / gaps.mean() for gaps in (np.diff(source_s), np.diff(scene.starts_s)))
    one, other = Sample.of(own, len(own)), Sample.of(made, len(made))
    return [distance_row("gaps over their mean", "KS", *ks_distance(one, other), design=design)] if one and other else []


def _cv(values: Numbers) -> float:
    mean = float(values.mean())
    return float(values.std()) / mean if mean else 0.0


def _iod(counts: Numbers) -> float | None:
    return float(counts.var() / counts.mean()) if len(counts) > 1 and counts.any() else None


def _error(values: Numbers, statistic: Any) -> float:
    """Standard error by the jackknife over ten stretches, which lets neighbours depend on each other (Künsch 1989)."""
    pieces = np.array_split(values, min(_BLOCKS, len(values)))
    without = [statistic(np.concatenate([p for j, p in enumerate(pieces) if j != i])) for i in range(len(pieces))]
    left = np.array([w for w in without if w is not None])
    return float(((len(left) - 1) / len(left) * np.square(left - left.mean()).sum()) ** 0.5) if len(left) > 1 else 0.0
