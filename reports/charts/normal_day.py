"""The normal day at a glance: each router's TTFT, TPOT, E2E and goodput with intervals over seeds. It does not rank."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, focus, focused, labelled, named, router_rows
from reports.charts.timelines import runs
from reports.leaderboard import NormalDay, normal_day_rows
from reports.scene import Scene

ROW_PX = 24
MEASURES = {
    "ttft_p90_s": ("TTFT p90, ms", 1000.0),
    "tpot_p90_s": ("TPOT p90, ms", 1000.0),
    "e2e_p90_s": ("E2E p90, s", 1.0),
    "goodput_rps": ("Goodput, req/s", 1.0),
}
SCHEMA = {"s": pl.String, "panel": pl.String, "measure": pl.String, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64}


def frame(rows: Sequence[NormalDay], scene: Scene) -> pl.DataFrame:
    """Columns: s, router, panel (condition), measure, mean, low, high (ms for TTFT and TPOT); censored ones are left out."""
    values = []
    for row in rows:
        for measure, (title, factor) in MEASURES.items():
            got = row.metrics.get(measure)
            if got is None or got.mean is None:
                continue
            low, high = (got.mean if v is None else v for v in (got.low, got.high))
            values.append((row.router, row.condition, title, got.mean * factor, max(low, 0.0) * factor, high * factor))
    return labelled(pl.DataFrame(values, schema=SCHEMA, orient="row"), scene.routers, "router")


def _panel(scene: Scene, title: str) -> Any:
    """One measure: a row a router, its mean and 95% interval."""
    base = (
        named()
        .transform_filter(f"datum.measure === '{title}'")
        .encode(y=router_rows(scene), color=colour(scene.routers), opacity=focused())
    )
    scale = alt.Scale(zero=False, nice=True)
    tooltip = [
        alt.Tooltip("router:N"),
        *(alt.Tooltip(f"{f}:Q", title=t, format=".4~r") for f, t in (("mean", title), ("low", "95% low"), ("high", "95% high"))),
    ]
    spans = base.mark_rule(strokeWidth=2, tooltip=None).encode(x=alt.X("low:Q", scale=scale), x2="high:Q")
    x = alt.X("mean:Q", scale=scale, axis=alt.Axis(title=None, tickCount=4, format="~r"))
    dots = base.mark_point(filled=True, size=80, strokeWidth=0).encode(x=x, tooltip=tooltip)
    return alt.layer(spans, dots, title=title).properties(width=320, height=ROW_PX * len(scene.routers))


def normal_day(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a condition, up to four panels."""
    everything = frame(normal_day_rows(con, scene), scene)
    titles = [title for title, _ in MEASURES.values() if title in set(everything["measure"])]
    if not titles:
        return []
    panels = [_panel(scene, title) for title in titles]
    chart = alt.concat(*panels, columns=2, spacing=18).add_params(focus()).resolve_scale(x="independent", y="independent")
    return [
        Figure(
            key=f"normal-{condition.key}",
            title="The normal day at a glance",
            tab=condition.label,
            caption=f"Steady phase before the trigger: mean over {runs(scene)} of each run’s value, with 95% intervals; "
            "axes do not start at zero. Left is faster; for goodput, right is better. "
            "No dot: the percentile fell on requests that failed.",
            chart=chart,
            data={"rows": everything.filter(pl.col("panel") == condition.key).drop("panel")},
            columns={"router": "router", "measure": "measure", "mean": "mean", "low": "95% low", "high": "95% high"},
            fit=Fit(columns=2, min_px=380, side_px=182),
        )
        for condition in scene.conditions
        if not everything.filter(pl.col("panel") == condition.key).is_empty()
    ]
