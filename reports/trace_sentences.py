"""A trace's verdict in plain words, from its description. It computes nothing and reads no file."""

from collections.abc import Mapping
from typing import Any

from reports.sentences import counted, number, seconds

_POISSON_LIKE = (0.85, 1.2)
_BURSTY_IOD = 2.0
_WINDOWS_S = (60, 10, 1)


def verdict(facts: Mapping[str, Any]) -> list[str]:
    """How much and how bursty, how long, and what is shared: one sentence each."""
    return [_traffic(facts), _lengths(facts), _sharing(facts)]


def _traffic(facts: Mapping[str, Any]) -> str:
    arrivals, requests = facts.get("arrivals"), counted(facts["turns"], "request")
    what = requests if facts["turns"] == facts["sessions"] else f"{requests} in {counted(facts['sessions'], 'session')}"
    if not arrivals or not arrivals["rate_rps"]:
        return f"{what}, without a clock: when they are sent is for the study to say."
    of = "a second" if facts["turns"] == facts["sessions"] else "sessions a second"
    return f"{what} over {duration(arrivals['span_s'])}, {arrivals['rate_rps']:.3g} {of}: {_burstiness(arrivals)}."


def _burstiness(arrivals: Mapping[str, Any]) -> str:
    cv = arrivals["gap_cv"]
    low, high = _POISSON_LIKE
    gaps = (
        "evenly spaced"
        if cv < 0.3
        else "steadier than Poisson"
        if cv < low
        else "Poisson-like gaps"
        if cv <= high
        else "bursty gaps"
    )
    at = next(((w, arrivals[f"iod_{w}s"]) for w in _WINDOWS_S if arrivals[f"iod_{w}s"] is not None), None)
    if at is None:
        return f"{gaps} (CV {cv:.3g})"
    where = f"IoD {at[1]:.3g} at {at[0]} s"
    if cv <= high and at[1] > _BURSTY_IOD:
        return f"{gaps} (CV {cv:.3g}), but bursts or drift at the scale of {_scale(at[0])} ({where}; Poisson has 1)"
    return f"{gaps} (CV {cv:.3g}, {where}; Poisson has 1 and 1)"


def _scale(window_s: int) -> str:
    return {60: "a minute", 10: "ten seconds", 1: "a second"}[window_s]


def _lengths(facts: Mapping[str, Any]) -> str:
    prompt, answer = facts.get("input_tokens"), facts.get("output_tokens")
    if not prompt or not answer:
        return "It holds no request."
    said = f"The median prompt has {number(prompt['p50'])} tokens (p99 {number(prompt['p99'])}), "
    said += f"the median answer {number(answer['p50'])} (p99 {number(answer['p99'])})"
    turns = facts.get("turns_per_session")
    return f"{said}; a session has {turns['mean']:.3g} turns on average." if turns and turns["max"] > 1 else f"{said}."


def _sharing(facts: Mapping[str, Any]) -> str:
    reuse, distance = facts.get("reuse"), facts.get("reuse_distance")
    if not reuse or reuse["token_share"] <= 0:
        return "Nothing is shared between requests, so a prefix cache cannot help."
    within, across = reuse["within_sessions"], reuse["across_sessions"]
    places = ((within, "in a session’s own history"), (across, "between sessions"))
    parts = [(f"{share:.0%}", where) for share, where in places if share >= 0.005]
    said = f"{reuse['token_share']:.0%} of the prompt tokens were seen before"
    if parts:
        said += f" (all {parts[0][1]})" if len(parts) == 1 else f" ({' and '.join(' '.join(p) for p in parts)})"
    if distance and distance.get("most_of_reuse"):
        said += f"; to hit nine tenths of that, one cache must hold {_tokens(distance['most_of_reuse'])} tokens"
    return f"{said}."


def _tokens(count: int) -> str:
    return f"{count / 1e6:.3g} million" if count >= 1e6 else f"{count:,.0f}"


def notes(facts: Mapping[str, Any]) -> list[str]:
    """What a reader must know before the numbers: synthetic, estimated tokens, rows dropped or changed."""
    origin = facts["provenance"]
    found = []
    if facts.get("synthetic"):
        found.append("Synthetic: made by a generator, not recorded traffic.")
    if origin["token_counts"] != "exact":
        found.append(f"Token counts are {origin['token_counts']}.")
    for what, key in (("dropped", "rows_dropped"), ("changed", "rows_changed")):
        counts = origin.get(key) or {}
        if counts:
            found.append(f"Rows {what}: " + "; ".join(f"{reason}: {count:,}" for reason, count in counts.items()) + ".")
    return found


def headline(facts: Mapping[str, Any]) -> str:
    """One line: source, file, licence, first event."""
    origin = facts["provenance"]
    begin = facts.get("first_start_utc")
    dated = f"from {begin[:16].replace('T', ' ')} UTC" if begin else ""
    return " · ".join(p for p in (facts["source"], origin["file"], f"licence: {origin['licence']}", dated) if p)


def duration(span_s: float) -> str:
    """`58 min`, `3 h 20 min`, `9 days`: no finer than a reader needs."""
    if span_s >= 2 * 86_400:
        return f"{span_s / 86_400:.3g} days"
    if span_s < 600:
        return seconds(span_s)
    hours, minutes = divmod(round(span_s / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def fidelity_verdict(rows: list[dict[str, Any]]) -> str:
    """How many rows are the same, differ, or are not wanted to agree."""
    counts = {v: sum(r["verdict"] == v for r in rows) for v in ("same", "differs", "cannot be told", "by design")}
    judged = counts["same"] + counts["differs"] + counts["cannot be told"]
    said = f"{counts['same']} of {judged} comparisons agree within chance or 1%"
    untold = f"; {counts['cannot be told']} cannot be told, the run is too short" if counts["cannot be told"] else ""
    aside = f"; not meant to agree, and why: {counts['by design']} more" if counts["by design"] else ""
    return f"{said}{untold}{aside}."
