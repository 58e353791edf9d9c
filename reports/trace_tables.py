"""The tables of a trace's page: quantiles, arrivals, published figures, fidelity. They compute no statistic."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.html_tables import Cell, Column, Row, Table, amount, words
from reports.sentences import number, seconds

_QUANTITIES = {
    "input_tokens": "input tokens (whole prompt)",
    "user_tokens": "user tokens (the new message)",
    "output_tokens": "output tokens",
    "turns_per_session": "turns per session",
    "think_s": "think time, s",
    "gap_s": "between turns’ starts, s",
}
_SPREAD = ("mean", "cv", "p1", "p25", "p50", "p75", "p90", "p95", "p99", "max", "n")
_ARRIVALS = {
    "n": ("events", "count"),
    "span_s": ("span", "time"),
    "rate_rps": ("rate, /s", ""),
    "gap_mean_s": ("mean gap", "time"),
    "gap_cv": ("CV of the gaps", ""),
    "gap_acf1": ("correlation of neighbouring gaps", ""),
    "zero_gap_share": ("gaps of 0", "share"),
    "median_5min_cv": ("CV within 5 minutes, median", ""),
    "iod_1s": ("index of dispersion, 1 s", ""),
    "iod_10s": ("index of dispersion, 10 s", ""),
    "iod_60s": ("index of dispersion, 60 s", ""),
    "peak_to_mean_1s": ("peak ÷ mean, 1 s", ""),
    "peak_to_mean_10s": ("peak ÷ mean, 10 s", ""),
    "peak_to_mean_60s": ("peak ÷ mean, 60 s", ""),
}
_REUSE = {
    "token_share": ("prompt tokens seen before", "share"),
    "within_sessions": ("in the session’s own history", "share"),
    "across_sessions": ("from other sessions only", "share"),
    "segment_share": ("blocks or messages seen before", "share"),
    "requests_with_hit": ("requests with any hit", "share"),
    "requests_half_hit": ("requests with half or more hit", "share"),
    "median_share": ("median share of a prompt", "share"),
    "p90_share": ("p90 share of a prompt", "share"),
    "unique_segments": ("different blocks or messages", "count"),
}
_VERDICTS = {"same": "good", "differs": "bad", "cannot be told": "warn", "by design": "plain"}


def spread_table(facts: Mapping[str, Any]) -> Table:
    """A row a quantity that the trace holds."""
    columns = [Column("Quantity", text=True), *(Column(name) for name in _SPREAD)]
    rows = [
        Row([words(label), *(amount(facts[key][name], "count" if name == "n" else "") for name in _SPREAD)])
        for key, label in _QUANTITIES.items()
        if facts.get(key)
    ]
    return Table("spread-table", "Mean, coefficient of variation and percentiles.", columns, rows)


def arrival_table(facts: Mapping[str, Any]) -> Table | None:
    """Session starts, and all turns beside them where the trace times every turn."""
    series = [
        (label, facts[key])
        for label, key in (("Session starts", "arrivals"), ("All requests", "turn_arrivals"))
        if facts.get(key)
    ]
    if not series:
        return None
    rows = [Row([words(label), *(amount(values[key], unit) for _, values in series)]) for key, (label, unit) in _ARRIVALS.items()]
    caption = "Arrivals. Windows are whole ones from the first event; Poisson traffic has CV 1 and index of dispersion 1."
    return Table("arrival-table", caption, [Column("Statistic", text=True), *(Column(label) for label, _ in series)], rows)


def reuse_table(facts: Mapping[str, Any]) -> Table | None:
    reuse = facts.get("reuse")
    if not reuse or not reuse["token_share"]:
        return None
    rows = [Row([words(label), amount(reuse[key], unit)]) for key, (label, unit) in _REUSE.items()]
    caption = "Prefix reuse in a cache without limit, answers cached as they are made; shares of all prompt tokens."
    return Table("reuse-table", caption, [Column("Statistic", text=True), Column("Value")], rows)


_FIGURES = {
    "sessions": "sessions",
    "turns": "requests (turns)",
    "prefix_reuse": "prompt tokens seen before",
    "arrivals.rate_rps": "sessions a second",
    "arrivals.gap_cv": "CV of the gaps",
    "input_tokens.mean": "input tokens, mean",
    "user_tokens.mean": "user tokens, mean",
    "output_tokens.mean": "output tokens, mean",
    "turns_per_session.mean": "turns per session, mean",
}


def published_table(facts: Mapping[str, Any]) -> Table | None:
    """The source's own figures beside ours; a slice, a newer version or other token counts differ honestly."""
    found = facts.get("published") or []
    if not found:
        return None
    rows = [
        Row(
            [
                words(_FIGURES.get(p["key"], p["key"])),
                amount(p["published"]),
                amount(p["measured"]),
                _difference(p["difference_pct"]),
            ]
        )
        for p in found
    ]
    columns = [Column("Figure", text=True), Column("Published"), Column("This file"), Column("Difference")]
    caption = "What the source’s authors publish, and this file. A slice of the source, or another token count, differs honestly."
    return Table("published-table", caption, columns, rows)


def _difference(percent: float | None) -> Cell:
    return Cell("–", "") if percent is None else Cell(f"{percent:+.1f}%".replace("-", "−"), repr(percent))


def names_table(facts: Mapping[str, Any], key: str, label: str) -> Table | None:
    """The ten most frequent languages or models."""
    found = facts.get(key)
    if not found:
        return None
    rows = [Row([words(str(entry["name"])), amount(entry["share"], "share")]) for entry in found["top"]]
    caption = f"{label}s, by sessions: the {len(rows)} most frequent of {found['distinct']:,}."
    return Table(f"{key}-table", caption, [Column(label, text=True), Column("Sessions")], rows)


def fidelity_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a comparison; the distance is relative unless it names its kind."""
    columns = [
        Column("Quantity", text=True),
        Column("Source", hint="the trace, cut the way the run cuts it"),
        Column("Synthesized"),
        Column("Distance", hint="relative; KS and Wasserstein-1 (over the mean) compare whole distributions"),
        Column("Chance", hint="what chance alone makes of the distance at these sizes"),
        Column("Verdict", text=True),
        Column("Why", text=True),
    ]
    made = [
        Row(
            [
                words(r["metric"]),
                _value(r["source"], r["unit"]),
                _value(r["synthesized"], r["unit"]),
                _distance(r["distance"], r["distance_kind"]),
                _chance(r),
                Cell(r["verdict"], r["verdict"], tag=_VERDICTS[r["verdict"]], css="text"),
                Cell(r["why"], r["why"], css="text why"),
            ]
        )
        for r in rows
    ]
    return Table("fidelity-table", "Synthesized against source. Choose a column’s head to sort.", columns, made)


def _value(value: float | None, unit: str) -> Cell:
    if value is None:
        return Cell("–", "")
    text = seconds(value) if unit == "s" else number(value, "share" if unit == "share" else "")
    return Cell(text, repr(value))


def _chance(row: Mapping[str, Any]) -> Cell:
    """In the unit of the distance."""
    noise = row["noise"] if row["distance"] is not None else None
    if noise is None:
        return Cell("–", "")
    return Cell(f"{noise:.1%}" if row["distance_kind"] == "relative" else f"{noise:.3f}", repr(noise))


def _distance(value: float | None, kind: str) -> Cell:
    if value is None:
        return Cell("–", "")
    said = {"KS": "KS ", "Wasserstein-1": "W₁ "}.get(kind, "")
    return Cell(f"{said}{value:.3f}" if said else f"{value:.1%}", repr(value))
