"""Which load to try next, and the capacity that the tries so far show. It does not run cells and does not know flows."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

TARGET_SUCCESS = 0.95
GROWTH = 1.5
REACH = 4096.0  # a capacity further than this factor from the first guess is not looked for


def capacity_next(
    results: Sequence[tuple[float, float]],
    start_rps: float,
    *,
    target: float = TARGET_SUCCESS,
    at_once: int = 2,
    tolerance: float = 0.03,
) -> list[float]:
    """The loads (rps) to try next, at most `at_once`; empty when the capacity is known to `tolerance` or out of reach.

    `results` holds (load_rps, success share) in any order, several seeds of one load are averaged. While nothing fails (or
    nothing passes) loads grow (or shrink) by `GROWTH`; then the bracket is cut geometrically. Pure: equal results, equal answer.
    """
    if not start_rps > 0:
        raise ValueError(f"start_rps: {start_rps!r} is not above 0")
    if at_once < 1:
        raise ValueError(f"at_once: {at_once!r} is below 1")
    low, high = _bracket(results, target)
    if low is not None and high is not None:
        cuts = range(1, at_once + 1) if high / low > 1 + tolerance else ()
        return _untried(results, [low * (high / low) ** (i / (at_once + 1)) for i in cuts])
    if low is not None:
        return _untried(results, [x for i in range(at_once) if (x := low * GROWTH ** (i + 1)) <= start_rps * REACH])
    if high is not None:
        return _untried(results, [x for i in range(at_once) if (x := high / GROWTH ** (i + 1)) >= start_rps / REACH])
    return _untried(results, [start_rps * GROWTH**i for i in range(at_once)])


def capacity_estimate(results: Sequence[tuple[float, float]], target: float = TARGET_SUCCESS) -> tuple[float, float, float]:
    """(C*, low, high) in rps: `low` passed, `high` is the lowest load that failed, C* is where success crosses `target`.

    Between the two, success is taken as linear in the load. Raises ValueError when nothing passed or nothing failed.
    """
    low, high = _bracket(results, target)
    if low is None:
        raise ValueError(f"capacity: none of {len(results)} tries reached a success of {target} (lowest load {high} rps)")
    if high is None:
        raise ValueError(f"capacity: every one of {len(results)} tries reached a success of {target} (highest load {low} rps)")
    success = dict(_by_load(results))
    share = (success[low] - target) / (success[low] - success[high])
    return low + share * (high - low), low, high


def cohort_success(attempts: Path, cell: Path | dict[str, Any], slo: Mapping[str, float | None], phase: str = "steady") -> float:
    """The share of requests first due in `phase` that met the SLO; failed and censored ones are misses.

    `attempts` is a cell's Parquet file, `cell` its cell.json (path or content), `slo` {ttft_s, tpot_s, e2e_s} (None = no
    limit). Raises ValueError when no request was due in the phase.
    """
    from reports.database import open_database
    from reports.tables import outcomes_of

    facts = json.loads(cell.read_text()) if isinstance(cell, Path) else cell
    with open_database() as con:
        outcomes_of(con, attempts, facts, slo)
        found = con.execute("SELECT avg(slo_met::INT) FROM outcomes WHERE phase = ?", [phase]).fetchone()
    if found is None or found[0] is None:
        raise ValueError(f"{attempts}: no request was due in phase {phase!r}")
    return float(found[0])


def _by_load(results: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Mean success of each load, loads ascending."""
    tries: dict[float, list[float]] = defaultdict(list)
    for load_rps, success in results:
        tries[load_rps].append(success)
    return sorted((load, sum(s) / len(s)) for load, s in tries.items())


def _bracket(results: Sequence[tuple[float, float]], target: float) -> tuple[float | None, float | None]:
    """(largest passing load below every failing one, smallest failing load)."""
    by_load = _by_load(results)
    high = min((load for load, success in by_load if success < target), default=None)
    passing = [load for load, success in by_load if success >= target and (high is None or load < high)]
    return max(passing, default=None), high


def _untried(results: Sequence[tuple[float, float]], loads: Iterable[float]) -> list[float]:
    """Loads at six significant digits (they become part of a cell's identity), without those that were tried."""
    return sorted({float(f"{load:.6g}") for load in loads} - {load for load, _ in results})
