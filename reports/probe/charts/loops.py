"""Hysteresis: the share of requests within the SLO on the way up and on the way down the same loads, a panel a router."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, focus, focused, named, plain_axis
from reports.probe.scene import ProbeScene
from reports.scene import Router

SCHEMA = {"s": pl.String, "guard": pl.String, "router": pl.String, "way": pl.String, "step": pl.Int64, "rps": pl.Float64,
          "success": pl.Float64, "x": pl.Float64}  # fmt: skip
COLUMNS = {"router": "router", "guard": "guard set", "way": "way", "rps": "load, req/s", "success": "success"}
WAYS = ("up", "down")
ASIDE = 0.016  # of the axis, between two guard sets at the same load
CAPTION = (
    "The load climbs a staircase and comes down again. Solid line and filled dots: success (requests due on that step that met "
    "the SLO) on the way up; dashed and open: on the way down. A loop that stays low on the way down is hysteresis: the pool "
    "remembers the overload. Mean over seeds; crosses at the bottom: nothing was due or known on that "
    "step. Guard sets are set a little aside of each other."
)


def frame(scene: ProbeScene) -> pl.DataFrame:
    """A row an arm, way and load, in the order of the way. Columns as in `SCHEMA`: `s` is the guard set's key, `x` the load as a
    share of C_ref, moved a little for each guard set."""
    climbed = [scene.fraction(rps) for h in scene.findings.hysteresis for rps in h.loads_rps]
    shift = ASIDE * (max(climbed) - min(climbed)) if climbed else 0.0
    aside = {g.key: (i - (len(scene.mapped) - 1) / 2) * shift for i, g in enumerate(scene.guards)}
    rows = []
    for h in scene.findings.hysteresis:
        router, guard = scene.router(h.arm[0]), scene.guard(h.arm[1])
        for way, levels in zip(WAYS, (h.up, h.down), strict=True):
            steps = list(zip(h.loads_rps, levels, strict=True))
            for i, (rps, success) in enumerate(steps if way == "up" else reversed(steps)):
                x = scene.fraction(rps) + aside[guard.key]
                rows.append((guard.key, guard.label, router.label, way, i, rps, success, x))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _panel(scene: ProbeScene, router: Router, index: int, loads: tuple[float, float]) -> Any:
    """One router: a loop a guard set."""
    rows = named().transform_filter(f"datum.router === routers[{index}]")
    gap = max(0.02, (loads[1] - loads[0]) * 0.05)
    x = alt.X("x:Q", scale=alt.Scale(domain=[loads[0] - gap, loads[1] + gap], nice=False),
              axis=alt.Axis(title="load, of C_ref", format=".0%", tickCount=5))  # fmt: skip
    y = alt.Y("success:Q", scale=alt.Scale(domain=[-0.02, 1.03], nice=False), axis=plain_axis(".0%"))
    way = alt.StrokeDash("way:N", legend=None, scale=alt.Scale(domain=list(WAYS), range=[[1, 0], [4, 3]]))
    both = rows.transform_filter("isValid(datum.success)").encode(x=x, y=y, color=colour(scene.guards), opacity=focused())
    line = both.mark_line(tooltip=None).encode(strokeDash=way, order="step:Q", detail="way:N")
    fills = alt.Scale(domain=[g.key for g in scene.guards], range=[g.colour for g in scene.guards])
    full = alt.condition("datum.way === 'up'", alt.Fill("s:N", legend=None, scale=fills), alt.value("var(--page)"))
    tooltip = [alt.Tooltip("router:N"), alt.Tooltip("guard:N", title="guard set"), alt.Tooltip("way:N"),
               alt.Tooltip("rps:Q", title="load, req/s", format=".3~r"), alt.Tooltip("success:Q", format=".1%")]  # fmt: skip
    dots = both.mark_point(size=40, strokeWidth=1.4).encode(fill=full, tooltip=tooltip)
    unseen = rows.transform_filter("!isValid(datum.success)").mark_point(shape="cross", size=40)
    unseen = unseen.encode(x=x, y=alt.datum(0.0), color=colour(scene.guards), opacity=focused(), tooltip=tooltip)
    return alt.layer(line, dots, unseen, title=router.label).properties(width=400, height=180)


def loops(_con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure with a panel a router; none where no staircase was asked for."""
    rows = frame(scene)
    if rows.is_empty():
        return []
    present = [r for r in scene.routers if r.label in set(rows["router"])]
    climbed = rows["x"].to_list()
    panels = [_panel(scene, r, i, (min(climbed), max(climbed))) for i, r in enumerate(present)]
    labels = alt.param(name="routers", value=[r.label for r in present])
    chart = alt.concat(*panels, columns=3, spacing=20).add_params(focus(), labels)
    return [
        Figure(
            key="loops",
            title="Hysteresis: up and down the staircase",
            caption=CAPTION,
            chart=chart.resolve_scale(x="independent", y="independent"),
            data={"rows": rows},
            columns=COLUMNS,
            fit=Fit(columns=3, min_px=300, side_px=72),
            by_router=False,
        )
    ]
