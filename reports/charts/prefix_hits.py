"""Prefix hits by router, from the engines' own counters, beside what the simulation found. It does not rank."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, focus, focused, labelled, named, router_rows
from reports.charts.timelines import runs
from reports.prefix_shares import prefix_shares
from reports.scene import Condition, Scene

ROW_PX = 24
SCHEMA: dict[str, Any] = {
    "s": pl.String, "c": pl.String, "condition": pl.String, "share": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "hit_tokens": pl.Int64, "query_tokens": pl.Int64, "simulated": pl.Float64,
}  # fmt: skip
COLUMNS = {
    "router": "router",
    "condition": "client and guard",
    "share": "found, share",
    "low": "95% low",
    "high": "95% high",
    "hit_tokens": "tokens found",
    "query_tokens": "tokens looked up",
    "simulated": "found in the simulation, share",
}


def frame(con: duckdb.DuckDBPyConnection, scene: Scene) -> pl.DataFrame:
    """Columns: s, router, c and condition, share, low, high (0–1), hit_tokens, query_tokens, simulated (0–1 or NULL)."""
    values = [
        (r.router, r.condition, scene.condition(r.condition).label, r.measured.mean, *_limits(r.measured.low, r.measured.high),
         r.hit_tokens, r.query_tokens, r.simulated)
        for r in prefix_shares(con)
    ]  # fmt: skip
    return labelled(pl.DataFrame(values, schema=SCHEMA, orient="row"), scene.routers, "router")


def _limits(low: float | None, high: float | None) -> tuple[float | None, float | None]:
    return (None if low is None else max(0.0, low), None if high is None else min(1.0, high))


def _panel(scene: Scene, condition: Condition) -> Any:
    """One condition: a row a router, a dot at its share, its interval, a ring where the simulation has it."""
    scale = alt.Scale(domain=[0, 1])
    base = (
        named()
        .transform_filter(f"datum.c === '{condition.key}'")
        .encode(y=router_rows(scene), color=colour(scene.routers), opacity=focused())
    )
    tooltip = [
        alt.Tooltip("router:N"),
        *(alt.Tooltip(f"{f}:Q", title=COLUMNS[f], format=".1%") for f in ("share", "low", "high", "simulated")),
        *(alt.Tooltip(f"{f}:Q", title=COLUMNS[f], format=",") for f in ("hit_tokens", "query_tokens")),
    ]
    spans = base.mark_rule(strokeWidth=2, tooltip=None).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    x = alt.X("share:Q", scale=scale, axis=alt.Axis(title=None, format=".0%", tickCount=5))
    dots = base.mark_point(filled=True, size=80, strokeWidth=0).encode(x=x, tooltip=tooltip)
    rings = base.transform_filter("isValid(datum.simulated)").mark_point(filled=False, size=140, strokeWidth=1.5, shape="diamond")
    layers = [spans, dots, rings.encode(x=alt.X("simulated:Q", scale=scale), tooltip=tooltip)]
    return alt.layer(*layers, title=condition.label).properties(width=320, height=ROW_PX * len(scene.routers))


def prefix_hits(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure with a panel a condition; none where the pool was simulated, or its engines counted nothing."""
    rows = frame(con, scene) if scene.pool.live else pl.DataFrame()
    if rows.is_empty():
        return []
    present = set(rows["c"])
    panels = [_panel(scene, c) for c in scene.conditions if c.key in present]
    twins = rows["simulated"].drop_nulls().len() > 0
    spans = ", with 95% intervals over seeds" if len(scene.seeds) > 1 else ""
    caption = (
        "Share of all prompt tokens that the engines found in their prefix caches, by their own counters, over whole runs "
        f"(warm-up included): mean over {runs(scene)}{spans}."
    )
    return [
        Figure(
            key="prefix-hits",
            title="Prefix hits, as the engines count them",
            caption=caption + (" Diamond: the same requests in the simulation." if twins else ""),
            chart=alt.concat(*panels, columns=2, spacing=18).add_params(focus()).resolve_scale(y="independent"),
            data={"rows": rows},
            columns=COLUMNS,
            fit=Fit(columns=2, min_px=380, side_px=182),
        )
    ]
