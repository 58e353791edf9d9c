"""Recovered share: how many runs come back after the trigger, per router and condition, with Wilson 95% intervals."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, focus, focused, labelled, named, router_rows
from reports.leaderboard import Stampede, stampede_rows
from reports.scene import Condition, Scene

ROW_PX = 24
DOMAIN = (-0.02, 1.5)
SCHEMA = {"s": pl.String, "c": pl.String, "condition": pl.String, "share": pl.Float64, "low": pl.Float64, "high": pl.Float64}
COLUMNS = {
    "router": "router",
    "condition": "client and guard",
    "label": "came back",
    "share": "share",
    "low": "95% low",
    "high": "95% high",
}


def frame(rows: Sequence[Stampede], scene: Scene) -> pl.DataFrame:
    """Columns: s, router, c and condition, share, low, high, label (`k of n`); no share where no run is judged."""
    values = [
        (
            r.router,
            r.condition,
            scene.condition(r.condition).label,
            r.back / r.judged,
            r.share_low,
            r.share_high,
            f"{r.back} of {r.judged}",
        )
        if r.judged
        else (r.router, r.condition, scene.condition(r.condition).label, None, None, None, "not judged")
        for r in rows
    ]
    return labelled(pl.DataFrame(values, schema={**SCHEMA, "label": pl.String}, orient="row"), scene.routers, "router")


def _panel(scene: Scene, condition: Condition) -> Any:
    """One condition: a row a router, a dot at the share of runs that came back, its interval, and `k of n`."""
    scale = alt.Scale(domain=DOMAIN)
    base = (
        named()
        .transform_filter(f"datum.c === '{condition.key}'")
        .encode(y=router_rows(scene), color=colour(scene.routers), opacity=focused())
    )
    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("condition:N", title="client and guard"),
        alt.Tooltip("label:N", title="came back"),
        alt.Tooltip("low:Q", title="95% low", format=".0%"),
        alt.Tooltip("high:Q", title="95% high", format=".0%"),
    ]
    spans = base.mark_rule(strokeWidth=2, tooltip=None).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    x = alt.X("share:Q", scale=scale, axis=alt.Axis(title=None, format=".0%", values=[0, 0.5, 1]))
    dots = base.mark_point(filled=True, size=90, strokeWidth=0).encode(x=x, tooltip=tooltip)
    words = base.mark_text(align="left", tooltip=None).encode(
        x=alt.datum(1.07, scale=scale), text="label:N", color=alt.value("var(--ink)")
    )
    return alt.layer(spans, dots, words, title=condition.label).properties(width=280, height=ROW_PX * len(scene.routers))


def comebacks(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure with a panel a condition; none after a placebo."""
    rows = frame(stampede_rows(con, scene), scene)
    if scene.trigger.placebo or rows.is_empty():
        return []
    present = set(rows["c"])
    panels = [_panel(scene, c) for c in scene.conditions if c.key in present]
    return [
        Figure(
            key="comebacks",
            title="Who comes back",
            caption=f"Share of runs that come back after {scene.trigger.words}, with Wilson 95% intervals over seeds. "
            "Unstable and void runs are not judged.",
            chart=alt.concat(*panels, columns=3, spacing=18).add_params(focus()).resolve_scale(y="independent"),
            data={"rows": rows},
            columns=COLUMNS,
            fit=Fit(columns=3, min_px=330, side_px=182),
        )
    ]
