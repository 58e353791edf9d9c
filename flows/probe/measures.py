"""What one finished run showed, as the numbers of an answer. It judges nothing: the verdict comes from elsewhere."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flows.probe.cell import Planned
from flows.probe.looking import steady_of
from replay.recorder import Recorder
from reports.bands import Bands
from reports.course import Array, Course
from reports.verdict import END_S, success_share

Ints = npt.NDArray[np.int64]
NEVER = np.iinfo(np.int64).min


def finite(value: float) -> float | None:
    """None where nothing was seen, or where it lies at infinity."""
    return float(value) if np.isfinite(value) else None


def calm_measures(planned: Planned, course: Course, attempts: pa.Table) -> dict[str, float | None]:
    """Of the steady phase: SLO success, TTFT quantiles (None where they lie among the failed), goodput, cache hit."""
    start_s, end_s = steady_of(planned)
    steady = course.cut(start_s, end_s)
    p50, p99 = ttft_quantiles(attempts, start_s, end_s, (0.5, 0.99))
    return {
        "success": success_share(steady),
        "calm_ttft_p50_s": p50,
        "calm_ttft_p99_s": p99,
        "calm_goodput_rps": float(steady.succeeded.mean()),
        "hit_calm": _mean(steady.hit_rate),
    }


def ttft_quantiles(attempts: pa.Table, start_s: float, end_s: float, at: tuple[float, ...]) -> list[float | None]:
    """TTFT of the requests first due in [start, end), the failed at infinity: None for a quantile that lies there."""
    roots, place = np.unique(_microseconds(attempts, "request_id"), return_inverse=True)
    due, answered = (np.full(len(roots), NEVER, dtype=np.int64) for _ in range(2))
    first = _microseconds(attempts, "attempt") == 1
    due[place[first]] = _microseconds(attempts, "scheduled_us")[first]
    ok = np.asarray(attempts["outcome"].to_numpy(zero_copy_only=False) == "ok")
    answered[place[ok]] = _microseconds(attempts, "first_token_us")[ok]
    wanted = (due >= start_s * 1e6) & (due < end_s * 1e6)
    ttft_s = np.where(answered == NEVER, np.inf, (answered - due) / 1e6)[wanted]
    if not len(ttft_s):
        return [None] * len(at)
    return [finite(q) for q in np.quantile(ttft_s, at, method="higher")]


def late_measures(planned: Planned, course: Course, recorder: Recorder, until_s: float) -> dict[str, float | None]:
    """From the trigger's end until `until_s`: attempts per root, work waste, cache hit at the end, and spill: the fullest
    replica's queue by the mean one's."""
    start_s = planned.timing.trigger_end_s
    after = course.cut(start_s, max(start_s, min(int(until_s), len(course))))
    roots, computed = after.scheduled.sum(), after.computed_tokens.sum()
    return {
        "amplification": float(after.cohort_attempts.sum() / roots) if roots else None,
        "waste": float(1 - after.useful_tokens.sum() / computed) if computed else None,
        "hit_end": _mean(after.hit_rate[-END_S:]),
        "spill": spill(recorder, planned.cell.pool.replicas, start_s, until_s),
    }


def spill(recorder: Recorder, replicas: int, start_s: float, until_s: float) -> float | None:
    """Σ over seconds of the fullest queue / Σ of the mean queue; None while nothing waits."""
    waiting = [s.waiting for s in recorder.samples if start_s <= s.t_us / 1e6 < until_s]
    queues = np.array(waiting, dtype=np.float64).reshape(-1, replicas)
    total = queues.mean(axis=1).sum()
    return float(queues.max(axis=1).sum() / total) if total else None


def lost_goodput(planned: Planned, course: Course, calm: Bands, until_s: float) -> float:
    """Roots that a calm run would have served from the trigger's start until `until_s`, less those that this one served.

    Sessions that are stuck ask for less than planned: a loss, and no lower demand.
    """
    end_s = min(int(until_s), len(course))
    during = course.cut(planned.timing.steady[1], planned.timing.trigger_end_s)
    after = course.cut(planned.timing.trigger_end_s, max(planned.timing.trigger_end_s, end_s))
    roots = max(float(after.scheduled.sum()), planned.ask.load_rps * len(after))
    demand = float(during.decided.sum()) + roots - float(after.undecided.sum())
    return calm.success.mean * demand - float(during.succeeded.sum() + after.succeeded.sum())


def levels(planned: Planned, course: Course) -> tuple[float | None, ...]:
    """SLO success of each piece's last two thirds."""
    return tuple(success_share(course.cut(start_s, end_s)) for start_s, end_s in planned.timing.levels)


def _microseconds(table: pa.Table, name: str) -> Ints:
    """A column of whole numbers; NEVER where it is null."""
    return np.asarray(pc.fill_null(table[name], NEVER).to_numpy(zero_copy_only=False), dtype=np.int64)


def _mean(values: Array) -> float | None:
    seen: Any = values[~np.isnan(values)]
    return float(seen.mean()) if len(seen) else None
