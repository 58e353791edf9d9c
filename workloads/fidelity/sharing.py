"""What requests share, compared: prefix reuse and tenants, against stretches of the trace. It knows no arrivals."""

from collections.abc import Callable
from typing import Any

import numpy as np

from workloads.description.reuse import Reuse, reuse
from workloads.draws import generator
from workloads.fidelity.rows import row
from workloads.fidelity.scene import Ints, Scene
from workloads.request_table import RequestTable
from workloads.sessions import Sessions, flat_turns, request_table, turns_before

_TOP = 10
_MANY_REQUESTS = 200_000


def sharing_rows(scene: Scene) -> list[dict[str, Any]]:
    """Prefix share (within and across sessions, infinite cache) and the ten largest tenants' share of sessions.

    Both depend on how much is seen, so the source's side is the mean over stretches of the trace with as many sessions, started
    evenly over the run and cut as the run is; chance is Student's t over them.
    """
    stretches = [_stretch(scene, number) for number in range(_stretch_count(scene))]
    table = _rows_of(scene.workload.table, scene.sent)
    rows = []
    if int(scene.lengths.turns.max()) > 1 or len(scene.trace.segment_ids) or len(scene.trace.prefix_ids):
        made, found = reuse(table), [reuse(s) for s in stretches]
        compared = [_row(name, part(made), [part(f) for f in found]) for name, part in _PARTS.items()]
        rows = [r for r in compared if r["source"] or r["synthesized"]]
    if len(np.unique(scene.trace.tenant)) > 1 and len(scene.starts_s):
        rows.append(_row("top 10 tenants’ share of sessions", _top_share(table), [_top_share(s) for s in stretches]))
    return rows


_PARTS: dict[str, Callable[[Reuse], float]] = {
    "prefix share": lambda r: r.share(r.hit),
    "prefix share within sessions": lambda r: r.share(r.history + r.own),
    "prefix share across sessions": lambda r: r.share(r.others),
}


def _row(name: str, made: float, found: list[float]) -> dict[str, Any]:
    from scipy.stats import t

    mean = float(np.mean(found))
    deviation = float(np.std(found, ddof=1)) * (1 + 1 / len(found)) ** 0.5
    noise = float(t.ppf(0.995, len(found) - 1)) * deviation / (mean or 1.0)
    why = f"source: {len(found)} stretches of the trace as large as the run"
    return row(name, mean, made, unit="share", noise=noise, scale=max(mean, 0.1), why=why)


def _stretch_count(scene: Scene) -> int:
    return 8 if len(scene.workload.table) <= _MANY_REQUESTS else 3


def _stretch(scene: Scene, number: int) -> RequestTable:
    """Sessions in a row from one of evenly spaced places of the trace, in passes where it is too short, started at random."""
    usable, count = len(scene.lengths.index), _stretch_count(scene)
    span_s = scene.past_s + scene.horizon_s
    starts = max(1, round(len(scene.starts_s) * span_s / scene.horizon_s))
    draw = generator(scene.workload.seed, "fidelity-stretch", number)
    place = (number * usable // count + np.arange(starts)) % usable
    start_s = np.sort(draw.uniform(-scene.past_s, scene.horizon_s, starts))
    first, stop = (turns_before(scene.lengths, place, start_s, at) for at in (0.0, scene.horizon_s))
    kept = np.flatnonzero(stop > first)
    sessions = Sessions(place[kept], (np.arange(starts) // usable)[kept], start_s[kept], first[kept], stop[kept])
    return request_table(scene.trace, scene.lengths, sessions)


def _top_share(table: RequestTable) -> float:
    """The ten largest tenants' share of the sessions that start in the run."""
    counts = np.bincount(table.tenant[table.turn == 0])
    return float(np.sort(counts)[::-1][:_TOP].sum() / max(counts.sum(), 1))


def _rows_of(table: RequestTable, rows: Ints) -> RequestTable:
    """Some rows of a table: of each session the first ones, so that what extends the row before still does."""
    counts = np.diff(table.new_bounds)[rows]
    at = flat_turns(table.new_bounds[:-1][rows], counts)
    columns = {name: getattr(table, name)[rows] for name in RequestTable.__dataclass_fields__ if not name.startswith("new_")}
    bounds = np.concatenate([[0], np.cumsum(counts)])
    return RequestTable(**columns, new_bounds=bounds, new_ids=table.new_ids[at], new_tokens=table.new_tokens[at])
