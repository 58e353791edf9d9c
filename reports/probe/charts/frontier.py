"""The map: how large a burst each router survives at each load, a panel a guard set, a tab a length. It does not judge."""

from itertools import pairwise
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, dash, focus, focused, named
from reports.probe.charts.lanes import Lanes
from reports.probe.findings import FrontierPoint
from reports.probe.scene import GuardSet, ProbeScene, beyond, survived

SHAPES = {"survived": "circle", "above": "triangle-up", "below": "triangle-down", "unstable": "cross"}
COLUMNS = {"router": "router", "guard": "guard set", "load": "load", "said": "survives", "low": "90% low, ×",
           "high": "90% high, ×", "runs": "runs", "back": "came back"}  # fmt: skip
SCHEMA = {"s": pl.String, "router": pl.String, "g": pl.String, "guard": pl.String, "x": pl.Float64, "load": pl.String,
          "y": pl.Float64, "y_low": pl.Float64, "y_high": pl.Float64, "lane": pl.String, "said": pl.String, "low": pl.Float64,
          "high": pl.Float64, "runs": pl.Int64, "back": pl.Int64}  # fmt: skip
CAPTION = (
    "The largest burst of {length:g} s from which an arm comes back with probability 0.9, against the base load (of C_ref, "
    "{c_ref:.3g} req/s). Line: posterior median; bars and band: 90% credible interval. Open arrows: the size lies beyond what "
    "was tried. Crosses: the arm does not carry that load even without a burst. Routers at the same load are set side by side."
)


def place(point: FrontierPoint, lanes: Lanes) -> tuple[str, float, float | None, float | None]:
    """(lane, y, lowest y, highest y) of a point; an unstable one has no interval."""
    if not point.stable:
        return "unstable", lanes.unstable, None, None
    if point.k is not None:
        return "survived", point.k, point.low or lanes.below, point.high or lanes.above
    if beyond(point):
        return "above", lanes.above, point.low or lanes.above, lanes.above
    return "below", lanes.below, lanes.below, point.high or lanes.below


def frame(scene: ProbeScene, length_s: float, lanes: Lanes) -> pl.DataFrame:
    """A row an arm and load. Columns as in `SCHEMA`: x is the load in percent, moved a little for each router."""
    loads = scene.fractions
    gap = min((b - a for a, b in pairwise(loads)), default=0.2)
    count = len(scene.routers)
    rows = []
    for p in scene.findings.frontier:
        if p.length_s != length_s:
            continue
        router, guard = scene.router(p.arm[0]), scene.guard(p.arm[1])
        aside = (int(router.key[1:]) - (count - 1) / 2) / max(1, count) * 0.6 * gap
        back = sum(recovered for _, recovered in p.tries)
        lane, y, y_low, y_high = place(p, lanes)
        rows.append((router.key, router.label, guard.key, guard.label, 100 * (p.fraction + aside), f"{p.fraction:.0%}", y, y_low,
                     y_high, lane, survived(p, scene.sizes), p.low, p.high, len(p.tries), back))  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("g", "s", "x")


def _panel(scene: ProbeScene, guard: GuardSet, lanes: Lanes) -> Any:
    """One guard set: lanes, and a line, an interval a load and a mark a load for each router."""
    loads = [100 * f for f in scene.fractions]
    gap = min((b - a for a, b in pairwise(loads)), default=20)
    axis = alt.Axis(title="load, % of C_ref", values=loads, format=".0f", grid=False)
    x = alt.X("x:Q", scale=alt.Scale(domain=[loads[0] - gap / 2, loads[-1] + gap / 2], nice=False), axis=axis)
    y = alt.Y("y:Q", scale=lanes.scale(), axis=lanes.axis())
    rows = named().transform_filter(f"datum.g === '{guard.key}'").encode(x=x, color=colour(scene.routers))
    held = rows.transform_filter("datum.lane !== 'unstable'")
    faint = (
        alt.when("focus === ''").then(alt.value(0.05)).when("focus === datum.s").then(alt.value(0.2)).otherwise(alt.value(0.0))
    )
    band = held.mark_area(tooltip=None).encode(y=alt.Y("y_low:Q", scale=lanes.scale()), y2="y_high:Q", opacity=faint)
    bars = held.mark_rule(strokeWidth=1.5, tooltip=None).encode(
        y=alt.Y("y_low:Q", scale=lanes.scale()), y2="y_high:Q", opacity=focused(0.55, 0.08)
    )
    line = held.mark_line(tooltip=None).encode(y=y, strokeDash=dash(scene.routers), opacity=focused(0.9, 0.1))
    shape = alt.Shape("lane:N", legend=None, scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())))
    open_or_full = alt.condition(
        "datum.lane === 'survived'", alt.Fill("s:N", legend=None, scale=_fills(scene)), alt.value("var(--page)")
    )
    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("guard:N", title="guard set"),
        alt.Tooltip("load:N", title="load, of C_ref"),
        alt.Tooltip("said:N", title="survives"),
        alt.Tooltip("low:Q", title="90% low", format=".3~r"),
        alt.Tooltip("high:Q", title="90% high", format=".3~r"),
        alt.Tooltip("back:Q", title="runs that came back"),
        alt.Tooltip("runs:Q", title="of"),
    ]
    marks = rows.mark_point(size=62, strokeWidth=1.6).encode(
        y=y, shape=shape, fill=open_or_full, opacity=focused(), tooltip=tooltip
    )
    layers = [lanes.strips(), band, bars, line, marks]
    return alt.layer(*layers, title=guard.label).properties(width=400, height=330)


def _fills(scene: ProbeScene) -> Any:
    return alt.Scale(domain=[r.key for r in scene.routers], range=[r.colour for r in scene.routers])


def frontier(_con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure a burst length with a panel a guard set; none where the frontier was not asked for."""
    if not scene.findings.frontier:
        return []
    lanes = Lanes(*scene.sizes)
    figures = []
    for length_s in scene.lengths_s:
        rows = frame(scene, length_s, lanes)
        panels = [_panel(scene, g, lanes) for g in scene.mapped if g.key in set(rows["g"])]
        chart = alt.concat(*panels, columns=3, spacing=22).add_params(focus()).resolve_scale(y="independent", x="independent")
        figures.append(
            Figure(
                key=f"frontier-{length_s:g}s",
                title=f"Survived size of a burst of {length_s:g} s",
                tab=f"{length_s:g} s",
                caption=CAPTION.format(length=length_s, c_ref=scene.findings.c_ref_rps),
                chart=chart,
                data={"rows": rows, "lanes": lanes.frame()},
                columns=COLUMNS,
                fit=Fit(columns=3, min_px=320, side_px=88),
            )
        )
    return figures
