"""How a quantity is distributed over requests or sessions: histograms on a logarithmic axis. It does not compare two traces."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.sentences import number
from reports.trace_charts.axes import FILL, MARK, SIDE_PX, log_axis, rows, sized, value_axis

_BINS = ("Shares {of} in bins of equal width on a logarithmic axis", "Shares {of} with so many turns, on a logarithmic axis")


def input_lengths(description: Mapping[str, Any]) -> Figure | str:
    """Whole prompts, history included."""
    return _distribution(description, "input_tokens", "Prompt lengths", "tokens in the whole prompt", "of requests")


def output_lengths(description: Mapping[str, Any]) -> Figure | str:
    return _distribution(description, "output_tokens", "Answer lengths", "tokens in the answer", "of requests")


def turn_counts(description: Mapping[str, Any]) -> Figure | str:
    """Left out where every session has one turn."""
    if (description.get("turns_per_session") or {"max": 1})["max"] <= 1:
        return "No turns per session: every session has one turn, or the source does not tell which requests belong together."
    return _distribution(description, "turns_per_session", "Turns per session", "turns", "of sessions")


def think_times(description: Mapping[str, Any]) -> Figure | str:
    """Think times where they are known, else the seconds between two turns' starts."""
    if description.get("think_s"):
        return _distribution(
            description, "think_s", "Think times", "seconds from an answer’s end to the next turn", "of later turns"
        )
    if description.get("gap_s"):
        return _distribution(description, "gap_s", "Between turns", "seconds between two turns’ starts", "of later turns")
    return "No think times: the source does not tell when later turns were sent."


def _distribution(description: Mapping[str, Any], name: str, title: str, axis_title: str, of: str) -> Figure | str:
    histogram, spread = (description.get("histograms") or {}).get(name), description.get(name)
    if not histogram or not spread:
        return f"No {title.lower()}: the trace does not hold them."
    total = sum(histogram["count"])
    bins = list(zip(histogram["low"], histogram["high"], histogram["count"], strict=True))
    below = [(high, count) for low, high, count in bins if low == 0]
    frame = pl.DataFrame(
        [(low, high, count / total, count) for low, high, count in bins if low > 0],
        schema={"low": pl.Float64, "high": pl.Float64, "share": pl.Float64, "count": pl.Int64},
        orient="row",
    )
    if frame.is_empty():
        return f"No {title.lower()} to draw: all are below {below[0][0]:g}."
    marks = [(f"p{q}", spread[f"p{q}"]) for q in (50, 99) if spread[f"p{q}"] >= frame["low"][0]]
    said = "".join(f" {count / total:.1%} lie below {high:g} and are left out." for high, count in below if count)
    tip = [
        alt.Tooltip("low:Q", title="from", format=".4~r"),
        alt.Tooltip("high:Q", title="to below", format=".4~r"),
        alt.Tooltip("share:Q", title=of, format=".2%"),
    ]
    domain = [float(frame["low"][0]), float(frame["high"][-1])]
    x = alt.X("low:Q", scale=alt.Scale(type="log", domain=domain, nice=False), axis=log_axis(axis_title, *domain))
    top = alt.Scale(domain=[0, 1.12 * max(frame["share"])], nice=False)
    y = alt.Y("share:Q", scale=top, axis=value_axis(f"share {of}", "~%"))
    bars = rows().mark_rect(color=FILL, stroke=None).encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), tooltip=tip)
    quantiles = alt.Chart(alt.NamedData(name="marks"))
    rule = quantiles.mark_rule(color=MARK, strokeWidth=1.5).encode(x="at:Q", tooltip=[alt.Tooltip("label:N", title=" ")])
    text = quantiles.mark_text(align="left", baseline="top", dx=4).encode(x="at:Q", y=alt.value(2), text="label:N")
    return Figure(
        key=name.replace("_", "-"),
        title=title,
        caption=f"{_BINS[name == 'turns_per_session'].format(of=of)}; lines: median {_said(spread['p50'])} and "
        f"p99 {_said(spread['p99'])}.{said}",
        chart=sized(alt.layer(bars, rule, text)),
        data={"rows": frame, "marks": pl.DataFrame(marks, schema={"label": pl.String, "at": pl.Float64}, orient="row")},
        columns={"low": "from", "high": "to below", "share": f"share {of}", "count": "count"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )


def _said(value: float) -> str:
    return number(value)
