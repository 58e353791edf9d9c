"""How much the busiest tenants send: cumulative shares by rank. It names no tenant."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.trace_charts.axes import LINE, MARK, SIDE_PX, log_axis, rows, sized, value_axis

_SERIES = {"sessions": "sessions_share", "requests": "turns_share"}


def tenants(description: Mapping[str, Any]) -> Figure | str:
    """Two lines: of sessions (which decide the rank) and of requests."""
    curve = description.get("tenant_curve") or []
    if len(curve) < 2:
        return "No tenants’ shares: the trace names fewer than two tenants."
    frame = pl.DataFrame(
        [(p["rank"], name, p[share]) for name, share in _SERIES.items() for p in curve],
        schema={"rank": pl.Int64, "of": pl.String, "share": pl.Float64},
        orient="row",
    )
    tip = [
        alt.Tooltip("rank:Q", title="busiest tenants"),
        alt.Tooltip("of:N", title="share of"),
        alt.Tooltip("share:Q", title="share", format=".1%"),
    ]
    x = alt.X(
        "rank:Q",
        scale=alt.Scale(type="log", nice=False),
        axis=log_axis("busiest tenants, counted", 1.0, float(curve[-1]["rank"])),
    )
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=value_axis("share sent by them", "~%"))
    colour = alt.Color("of:N", legend=None, scale=alt.Scale(domain=list(_SERIES), range=[LINE, MARK]))
    dash = alt.StrokeDash("of:N", legend=None, scale=alt.Scale(domain=list(_SERIES), range=[[1, 0], [6, 3]]))
    return Figure(
        key="tenants",
        title="Who sends it",
        caption=f"Share of the sessions (solid) and requests (dashed) that the busiest of {description['tenants']:,} tenants "
        "send together; rank by sessions.",
        chart=sized(rows().mark_line().encode(x=x, y=y, color=colour, strokeDash=dash, tooltip=tip)),
        data={"rows": frame},
        columns={"rank": "busiest tenants", "of": "of", "share": "share"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )
