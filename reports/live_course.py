"""The course of one run from its rows in memory, as table `seconds` would tell it: a run can be judged while it lasts.

It says nothing that `sql/outcomes.sql` and `sql/seconds.sql` do not say; a test holds it to them. Rows of what is still
open carry outcome `censored`, as they would if the run ended now.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from reports.course import Array, Course

Ints = np.ndarray[Any, np.dtype[np.int64]]
NEVER = np.iinfo(np.int64).min


def course_of(attempts: Any, samples: Any, slo: Mapping[str, float | None], until_s: float) -> Course:
    """Seconds 0 … until_s of a run whose rows are Arrow tables with the columns of `attempts.parquet` and `samples.parquet`."""
    n = int(np.ceil(until_s))
    by_root = _roots(attempts, slo, until_s)
    due = by_root["due_s"]

    def per_second(values: Array | None = None) -> Array:
        return np.bincount(due, weights=values, minlength=n)[:n].astype(np.float64)

    gauges = _gauges(samples, n)
    ends = _ints(attempts, "engine_ended_us")
    ends = ends[ends != NEVER] // 1_000_000
    return Course(
        0,
        scheduled=per_second(),
        succeeded=per_second(by_root["met"]),
        undecided=per_second(by_root["undecided"]),
        cohort_attempts=per_second(by_root["attempts"]),
        computed_tokens=per_second(by_root["computed"]),
        useful_tokens=per_second(by_root["useful"]),
        engine_ended=np.bincount(ends[ends < n], minlength=n)[:n].astype(np.float64),
        **gauges,
    )


def _roots(attempts: Any, slo: Mapping[str, float | None], until_s: float) -> dict[str, Any]:
    """One value a request that came due: see outcomes.sql, whose names these are."""
    ids, number = _ints(attempts, "request_id"), _ints(attempts, "attempt")
    roots, at = np.unique(ids, return_inverse=True)
    count = len(roots)
    outcome = attempts["outcome"].to_numpy(zero_copy_only=False)
    ok, censored = outcome == "ok", outcome == "censored"
    prefilled, decoded = _ints(attempts, "prefilled_tokens"), _ints(attempts, "decoded_tokens")
    work = (prefilled + decoded).astype(np.float64)

    def total(weights: Array) -> Array:
        return np.bincount(at, weights=weights, minlength=count).astype(np.float64)

    def largest(values: Ints, where: Any) -> Ints:
        found = np.full(count, NEVER, dtype=np.int64)
        np.maximum.at(found, at[where], values[where])
        return found

    scheduled = largest(_ints(attempts, "scheduled_us"), number == 1)
    first, ended = (_ints(attempts, f"{name}_us") for name in ("first_token", "ended"))
    ok_first, ok_ended = largest(first, ok), largest(ended, ok)
    tokens = largest(_ints(attempts, "output_tokens"), ok)
    answered = total(ok.astype(np.float64)) > 0
    ttft, tpot, e2e = ((np.inf if slo.get(key) is None else float(slo[key] or 0.0)) for key in ("ttft_s", "tpot_s", "e2e_s"))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        per_token = np.where(tokens > 1, (ok_ended - ok_first) / 1e6 / np.maximum(tokens - 1, 1), 0.0)
        met = answered & ((ok_first - scheduled) / 1e6 <= ttft) & (per_token <= tpot) & ((ok_ended - scheduled) / 1e6 <= e2e)
        open_first, open_tokens = largest(first, censored), largest(decoded, censored)
        still_open = ~answered & (total(censored.astype(np.float64)) > 0) & (open_first != NEVER)
        undecided = (
            still_open
            & ((open_first - scheduled) / 1e6 <= ttft)
            & ((until_s - open_first / 1e6) / np.maximum(open_tokens - 1, 1) <= tpot)
            & (until_s - scheduled / 1e6 <= e2e)
        )
    open_work = total(work * censored)
    came = scheduled != NEVER
    return {
        "due_s": (scheduled[came] // 1_000_000),
        "met": met[came].astype(np.float64),
        "undecided": undecided[came].astype(np.float64),
        "attempts": total((_ints(attempts, "client_attempt") >= 1).astype(np.float64))[came],
        "computed": total(work)[came],
        "useful": (total(work * ok) + np.where(undecided, open_work, 0.0))[came],
    }


def _gauges(samples: Any, n: int) -> dict[str, Array]:
    """The pool's gauges each second (the last sample of a second counts); NaN where none was taken."""
    second, replica = _ints(samples, "t_us") // 1_000_000, _ints(samples, "replica_id")
    pools = int(replica.max()) + 1 if len(replica) else 1

    def grid(name: str) -> Array:
        values = samples[name].to_numpy(zero_copy_only=False).astype(np.float64)
        table = np.full((pools, n), np.nan)
        inside = second < n
        table[replica[inside], second[inside]] = values[inside]
        return table

    running, waiting = grid("running"), grid("waiting")
    hits, queries = (np.nansum(_growth(grid(f"prefix_{name}_tokens")), axis=0) for name in ("hit", "query"))
    seen = ~np.isnan(waiting).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.where(seen & (queries > 0), hits / queries, np.nan)
    return {
        "in_flight": np.where(seen, np.nansum(running + waiting, axis=0), np.nan),
        "waiting": np.where(seen, np.nansum(waiting, axis=0), np.nan),
        "queue_age_s": _of_seen(np.nanmax, grid("queue_age_us") / 1e6, seen),
        "kv_used": _of_seen(np.nanmean, grid("kv_used"), seen),
        "hit_rate": rate,
    }


def _growth(counter: Array) -> Array:
    """What a counter gained since it was last seen, from 0 at the start."""
    gained = np.full_like(counter, np.nan)
    for row, out in zip(counter, gained, strict=True):
        seen = np.flatnonzero(~np.isnan(row))
        out[seen] = np.diff(row[seen], prepend=0.0)
    return gained


def _of_seen(fold: Any, values: Array, seen: Any) -> Array:
    found = np.full(values.shape[1], np.nan)
    if seen.any():
        found[seen] = fold(values[:, seen], axis=0)
    return found


def _ints(table: Any, name: str) -> Ints:
    """A column of whole numbers; `NEVER` where it is null."""
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(table[name], NEVER).to_numpy(zero_copy_only=False), dtype=np.int64)
