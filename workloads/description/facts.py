"""All the facts of a trace under fixed keys, ready for JSON. It does not know what will be sent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.description.arrivals import arrival_statistics, dispersion_curve, hour_profile, rate_series, unix_seconds, utc
from workloads.description.reuse import knows_lengths_only, lengths_only_reuse, reuse
from workloads.description.spread import Spread
from workloads.description.stack_distance import MOST_TOUCHES, hit_curve
from workloads.description.turn_times import own_turn_times, turn_order
from workloads.lengths import prompt_tokens
from workloads.sessions import whole_trace
from workloads.sources import SOURCES
from workloads.trace_table import Floats, Trace

_TOP = 10
_CURVE_POINTS = 50
_SHORTEST_S = 1e-3


def describe(trace: Trace) -> dict[str, Any]:
    """Counts and statistics under fixed keys (JSON only); None for what the trace does not hold or is too short to say.

    Input tokens are a turn's whole prompt, history included; output tokens are at least 1, as they are sent. Percentiles
    interpolate linearly, `cv` is the population's. `arrivals` are session starts, `turn_arrivals` all turns where the trace times
    every one (None where that is the same). See `arrival_statistics`, `Reuse.facts` and `hit_curve` for theirs. `published` holds
    the source's own figures beside ours.
    """
    spreads = _spreads(trace)
    made: dict[str, Any] = {
        "source": trace.source,
        "synthetic": trace.provenance["synthetic"],
        "sessions": len(trace),
        "turns": trace.turn_count,
        **_tenants(trace),
        **{name: found.summary() for name, found in spreads.items()},
        "histograms": {
            name: found.histogram(_SHORTEST_S if name.endswith("_s") else 1.0) for name, found in spreads.items() if len(found)
        },
        **_reuse(trace),
        **_arrivals(trace),
        "languages": _names(trace, "language"),
        "models": _names(trace, "model"),
        "provenance": dict(trace.provenance),
    }
    published = SOURCES[trace.source].published if trace.source in SOURCES else {}
    return {**made, "published": beside_published(made, published)}


def _spreads(trace: Trace) -> dict[str, Spread]:
    """Sorted values by name; times that the trace does not hold are empty."""
    columns, nothing = trace.table.column_names, np.empty(0)
    return {
        "turns_per_session": Spread(trace.turns),
        "input_tokens": Spread(_input_tokens(trace)),
        "user_tokens": Spread(trace.user_tokens),
        "output_tokens": Spread(np.maximum(trace.reply_tokens, 1)),
        "think_s": Spread(trace.think_s if "think_us" in columns else nothing),
        "gap_s": Spread(trace.gap_s if "gap_us" in columns else nothing),
    }


def _input_tokens(trace: Trace) -> npt.NDArray[Any]:
    alone = trace.turn_count == len(trace) and not len(trace.prefix_ids)
    return np.maximum(trace.user_tokens, 1) if alone else prompt_tokens(trace)


def _tenants(trace: Trace) -> dict[str, Any]:
    """Counts by tenant; sessions decide who is on top, and a tenant's share of turns stands beside."""
    if not len(trace):
        return {"tenants": 0, "top_10_tenants_share": None, "tenant_curve": []}
    if "tenant" not in trace.table.column_names:
        return {"tenants": 1, "top_10_tenants_share": 1.0, "tenant_curve": []}
    _, inverse, sessions = np.unique(trace.tenant, return_inverse=True, return_counts=True)
    turns = np.bincount(inverse, weights=trace.turns)
    down = np.argsort(-sessions, kind="stable")
    of_sessions, of_turns = (np.cumsum(v[down]) / v.sum() for v in (sessions, turns))
    ranks = np.unique(np.rint(np.geomspace(1, len(sessions), _CURVE_POINTS)).astype(int)).tolist()
    return {
        "tenants": len(sessions),
        "top_10_tenants_share": float(of_sessions[min(_TOP, len(sessions)) - 1]),
        "tenant_curve": [
            {"rank": r, "sessions_share": float(of_sessions[r - 1]), "turns_share": float(of_turns[r - 1])} for r in ranks
        ],
    }


def _reuse(trace: Trace) -> dict[str, Any]:
    """Prefix reuse without limit, and with one: for that, the turns stand in the order of time."""
    if not len(trace):
        return {"prefix_reuse": 0.0, "reuse": None, "reuse_distance": None}
    if knows_lengths_only(trace) and trace.turn_count == len(trace):
        found, distance = lengths_only_reuse(trace), None
    else:
        order, basis = turn_order(trace)
        table = whole_trace(trace)
        found = reuse(table, order)
        curve = hit_curve(table, order) if found.hit.any() else None
        missing = f"more than {MOST_TOUCHES:,} touches of shared prefixes" if found.hit.any() and curve is None else None
        distance = {"order": basis, "left_out": missing, **(curve or {})} if curve or missing else None
    return {"prefix_reuse": found.share(found.hit), "reuse": found.facts(), "reuse_distance": distance}


def _arrivals(trace: Trace) -> dict[str, Any]:
    """Statistics of session starts, and of all turns where they differ."""
    made: dict[str, Any] = dict.fromkeys(("arrivals", "turn_arrivals", "dispersion", "rate_series", "hours", "first_start_utc"))
    if not trace.has_timestamps or len(trace) < 2:
        return made
    first_s = unix_seconds(trace.provenance.get("first_start_us"))
    made["first_start_utc"] = utc(first_s)
    made["arrivals"] = arrival_statistics(trace.start_s)
    turn_times = None if trace.turn_count == len(trace) else own_turn_times(trace)
    if turn_times is not None:
        turn_times = np.sort(turn_times)
        made["turn_arrivals"] = arrival_statistics(turn_times)
    made |= _course(trace.start_s, first_s)
    return made


def _course(times_s: Floats, first_s: float | None) -> dict[str, Any]:
    return {
        "dispersion": dispersion_curve(times_s),
        "rate_series": rate_series(times_s, first_s),
        "hours": hour_profile(times_s, first_s),
    }


def _names(trace: Trace, column: str) -> dict[str, Any] | None:
    """The ten most frequent values of a column by sessions, and how many there are; None where the trace names none."""
    if column not in trace.table.column_names:
        return None
    found = [(e["values"], e["counts"]) for e in trace.table.column(column).value_counts().to_pylist() if e["values"] is not None]
    if not found:
        return None
    top = sorted(found, key=lambda pair: (-pair[1], pair[0]))[:_TOP]
    return {"distinct": len(found), "top": [{"name": name, "share": count / len(trace)} for name, count in top]}


def beside_published(facts: Mapping[str, Any], published: Mapping[str, float]) -> list[dict[str, Any]]:
    """The source's own figures (keys like "input_tokens.mean") with ours and the difference in % of theirs."""
    return [{"key": key, "published": value, **_measured(_at(facts, key), value)} for key, value in published.items()]


def _measured(ours: float | None, theirs: float) -> dict[str, float | None]:
    known = ours is not None and theirs != 0
    return {"measured": ours, "difference_pct": 100.0 * (float(ours or 0.0) / theirs - 1.0) if known else None}


def _at(facts: Any, key: str) -> float | None:
    for part in key.split("."):
        facts = facts.get(part) if isinstance(facts, Mapping) else None
    return float(facts) if isinstance(facts, int | float) else None
