"""The verdict on one cell from its seconds and its arm's calm bands. It does not know tables, routers or other cells.

*Recovered at T*: from T on, 30 consecutive seconds and 300 root requests (or what 30 s of base load bring, less 3 of its standard
deviations, where that is fewer) have SLO success, attempts per root and queue age within the calm bands, and it stays so: see
`recovery`. Answers still streaming within the SLO when the run ended are left out of success.
*Latent*: so recovered, but cache hit or work waste are out of band over the last 30 s. *Metastable*: not recovered, the load is
back at base and the pool whole for 30 s, and neither the queue nor (where there is none) the SLO success would be back within
another observed time at their present trend. Else *slow*, censored at what was observed. *Deadlock*: not recovered, and in the
second half of the drain work stays in the engines, nothing leaves them and no KV block moves. *Unstable*: success before the
trigger is below 95% beyond doubt (the upper end of its Wilson 95% interval is), so that few requests and their noise condemn
nobody. Not judged at all: less than 30 s observed after the trigger.
Work waste and cache hit decide between recovered and latent, not whether a run recovered: users are served again, and damage that
they do not see needs a verdict of its own or it would hide among the collapses.
"""

from dataclasses import dataclass

import numpy as np

from reports.bands import Bands, in_bands
from reports.course import WINDOW_S, Array, Course, signals
from reports.protocol import TARGET_SUCCESS
from reports.statistics import wilson

HOLD_S, HOLD_ROOTS, RELAPSE_S, BAD_SHARE = 30, 300, 15, 0.1
LOAD_TOLERANCE, LOAD_WINDOW_S = 0.05, 30
SETTLE_S = 75  # in band without a break, and a run need not be looked at any longer: a pool that swings does so in shorter spells
TRIM_S = 5  # the last calm seconds: their requests may still be open when the trigger hits
END_S = 30  # what counts as the end of a run
DRAIN_MIN_S = 10

Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True)
class Verdict:
    """`verdict` of a cell; times in seconds after the recovery clock's start, `clock_start_s` from the run's start.

    `recovery_s` is None when censored; `censored_s` is then how long was observed. `cause` names only plain evidence.
    """

    verdict: str | None
    recovery_s: float | None = None
    censored_s: float | None = None
    cause: str | None = None
    clock_start_s: float | None = None


@dataclass(frozen=True)
class Stretches:
    """A cell's seconds: `steady` before the trigger, `after` it until the last phase ends, `drain` after that.

    `whole_s`: when the last replica that an event took away or hindered was back, in seconds from the run's start.
    """

    steady: Course
    after: Course
    drain: Course
    whole_s: float = 0.0


def judge(cell: Stretches, calm: Bands) -> Verdict:
    """The verdict on a cell whose certificate is good and that was stable before the trigger."""
    if len(cell.after) < HOLD_S:
        return Verdict(None, cause=f"{len(cell.after)} s were observed after the trigger; recovery takes {HOLD_S} s to be seen")
    clock = load_back(cell.after, calm)
    if clock is None:
        return Verdict("slow", censored_s=float(len(cell.after)), cause="the load did not come back to base")
    after = cell.after.cut(cell.after.start_s + clock, cell.after.start_s + len(cell.after))
    found = recovery(after, calm, HOLD_S)
    start_s, observed_s = float(after.start_s), float(len(after))
    if found is not None:
        cold = _latent(after, calm)
        return Verdict("latent" if cold else "recovered", recovery_s=float(found), cause=cold, clock_start_s=start_s)
    if deadlocked(cell.drain):
        stuck = "work stays in the engines though nothing arrives and nothing leaves"
        return Verdict("deadlock", censored_s=observed_s, cause=stuck, clock_start_s=start_s)
    early = _too_early(after, cell.whole_s)
    if early is not None:
        return Verdict("slow", censored_s=observed_s, cause=early, clock_start_s=start_s)
    name = "slow" if returning(after.cut(max(start_s, cell.whole_s), after.start_s + len(after)), calm) else "metastable"
    return Verdict(name, censored_s=observed_s, cause=_relapsed(after, calm), clock_start_s=start_s)


def _too_early(after: Course, whole_s: float) -> str | None:
    """Why a run that has not recovered cannot be called metastable either: what it was observed for says too little."""
    end_s = after.start_s + len(after)
    if whole_s > after.start_s and end_s - whole_s < HOLD_S:
        return f"the pool was not whole again {HOLD_S} s before the end"
    if len(after) < HOLD_S:
        return f"observed for {len(after)} s, of {HOLD_S} needed"
    return None if after.scheduled.any() else "no request came due after the trigger"


def success_share(course: Course) -> float | None:
    """Roots that met the SLO / roots of which that is known; None when there is none."""
    met, decided = roots_met(course)
    return met / decided if decided else None


def roots_met(course: Course) -> tuple[int, int]:
    """(roots that met the SLO, roots of which that is known)."""
    return round(course.succeeded.sum()), round(course.decided.sum())


def holds_slo(met: int, decided: int) -> bool:
    """Whether the upper end of the share's Wilson 95% interval reaches `TARGET_SUCCESS`: the SLO is not missed beyond chance."""
    high = wilson(met, decided).high
    return high is not None and high >= TARGET_SUCCESS


def load_back(after: Course, calm: Bands) -> int | None:
    """The first second of `after` from which the next 30 s bring no more roots than base + 5% (or + 3 standard errors).

    Fewer are no hindrance: stuck sessions ask for less.
    """
    error = 3 * calm.load_spread_rps / np.sqrt(LOAD_WINDOW_S)
    limit_rps = calm.load_rps + max(LOAD_TOLERANCE * calm.load_rps, error)
    for t in range(max(1, len(after) - LOAD_WINDOW_S + 1)):
        if len(after) and after.scheduled[t : t + LOAD_WINDOW_S].mean() <= limit_rps:
            return t
    return None


def recovery(after: Course, calm: Bands, hold_s: int) -> int | None:
    """The second of `after` at which recovery begins, None if it does not within what was observed.

    From there on it is in band for `hold_s` with enough roots, and longer than in any such spell before; and of what follows no
    `RELAPSE_S` seconds in a row are out of band, nor more than `BAD_SHARE` of all (`RELAPSE_S` in a short run). Else a pool that
    swings would pass in one of its good spells.
    """
    good = in_bands(after, calm)
    relapsed_s = _last_relapse_end(good)
    longest = 0
    for start, end in _good_spells(good, after, calm, hold_s):
        out_of_band = (~good[start:]).sum()
        if start >= relapsed_s and end - start > longest and out_of_band <= max(RELAPSE_S, BAD_SHARE * (len(good) - start)):
            return start
        longest = max(longest, end - start + WINDOW_S)  # a spell that ends is seen to end a window early, the last one is not
    return None


def settled(after: Course, calm: Bands) -> bool:
    """Whether a run that has come as far as `after` may be stopped as recovered: it is, nothing latent is left, and its last
    `SETTLE_S` seconds (and half as long again as any spell that ended) are in band without a break.

    `after` must end where all is known: the TTFT limit before the present second, or its last roots count as missed.
    """
    clock = load_back(after, calm)
    if clock is None or len(after) - clock < SETTLE_S:
        return False
    after = after.cut(after.start_s + clock, after.start_s + len(after))
    spells = _good_spells(in_bands(after, calm), after, calm, HOLD_S)
    if not spells or spells[-1][1] < len(after) or recovery(after, calm, HOLD_S) is None or _latent(after, calm):
        return False
    *earlier, last = (end - start for start, end in spells)
    return last >= max(SETTLE_S, 1.5 * max(earlier, default=0))


def _good_spells(good: Bools, after: Course, calm: Bands, hold_s: int) -> list[tuple[int, int]]:
    """(start, end) of every unbroken run of good seconds that is `hold_s` long and brings enough roots."""
    roots = max(1.0, min(HOLD_ROOTS, calm.load_rps * hold_s - 3 * calm.load_spread_rps * np.sqrt(hold_s)))
    edges = np.flatnonzero(np.diff(np.concatenate(([False], good, [False])))).reshape(-1, 2)
    due = np.concatenate(([0.0], np.cumsum(after.scheduled)))
    return [(int(a), int(b)) for a, b in edges if b - a >= hold_s and due[b] - due[a] >= roots]


def false_alarm(steady: Course, others: Bands) -> bool | None:
    """Whether the detector, knowing only other seeds, would find a calm stretch not recovered; None if it is too short."""
    hold_s = min(HOLD_S, len(steady) // 2)
    return recovery(steady, others, hold_s) is None if hold_s >= 10 else None


def returning(after: Course, calm: Bands) -> bool:
    """Whether the queue (or, without one, SLO success) would be back in band within another observed time."""
    now = signals(after)
    half = len(after) // 2
    excess, queue_back = _in_sight(now.waiting[half:] - calm.waiting.high, len(after))
    _, success_back = _in_sight(calm.success.low - now.success[half:], len(after))
    return queue_back if excess else success_back


def deadlocked(drain: Course) -> bool:
    """Work remains in the second half of the drain, nothing leaves the engines and their KV use does not move."""
    if len(drain) < DRAIN_MIN_S:
        return False
    late = drain.cut(drain.start_s + len(drain) // 2, drain.start_s + len(drain))
    sampled = ~np.isnan(late.in_flight)
    if not sampled[-2:].any():
        return False
    work, kv_used = late.in_flight[sampled], late.kv_used[sampled]
    return bool(work.min() > 0 and late.engine_ended.sum() == 0 and np.ptp(kv_used) < 1e-9)


def _relapsed(after: Course, calm: Bands) -> str | None:
    """Says so where a run that is down at the end had been back before."""
    spells = _good_spells(in_bands(after, calm), after, calm, HOLD_S)
    return f"back for {HOLD_S} s or more from {spells[0][0]} s on, then down again" if spells else None


def _latent(after: Course, calm: Bands) -> str | None:
    """What is still wrong at the end of a recovered run."""
    end = signals(after)
    hit_rate, waste = _end_mean(end.hit_rate), _end_mean(end.work_waste)
    if hit_rate < calm.hit_rate.low:
        return f"cache hit {hit_rate:.2f} at the end, {calm.hit_rate.mean:.2f} before the trigger"
    if waste > calm.work_waste.high:
        return f"work waste {waste:.2f} at the end, {calm.work_waste.mean:.2f} before the trigger"
    return None


def _end_mean(values: Array) -> float:
    tail = values[-END_S:]
    tail = tail[~np.isnan(tail)]
    return float(tail.mean()) if len(tail) else np.nan


def _last_relapse_end(good: Bools) -> int:
    """The second after the last run of `RELAPSE_S` bad ones, 0 without any."""
    end = run = 0
    for t, ok in enumerate(good):
        run = 0 if ok else run + 1
        if run >= RELAPSE_S:
            end = t + 1
    return end


def _in_sight(excess: Array, horizon_s: int) -> tuple[bool, bool]:
    """(there is an excess at the end, it is none or an evident trend ends it within `horizon_s`), by a least-squares line.

    Evident: the slope is beyond 3 standard errors, widened because neighbouring windows share seconds.
    """
    seen = ~np.isnan(excess)
    if seen.sum() < 3:
        return False, False
    t = np.arange(len(excess), dtype=np.float64)
    slope, at_zero = np.polyfit(t[seen], excess[seen], 1)
    end = at_zero + slope * (len(excess) - 1)
    if end <= 0:
        return False, True
    scatter = (excess[seen] - at_zero - slope * t[seen]).std() / (t[seen].std() * np.sqrt(seen.sum() / WINDOW_S))
    return True, bool(slope < -3 * scatter and end / -slope <= horizon_s)
