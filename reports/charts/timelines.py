"""Load, goodput, queues and cache on one time axis, phases shaded: a line a router, a figure a condition. It does not judge."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.event_marks import events, marks, strip
from reports.charts.figure import Figure, Fit
from reports.charts.panels import (
    colour,
    count_scale,
    dash,
    focus,
    focused,
    labelled,
    named,
    plain_axis,
    planned,
    shading,
    stages,
    time_axis,
)
from reports.scene import Scene
from reports.sentences import runs_told

BINS = 150
PANEL_PX = 96
WIDTHS_S = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0, 86400.0)
MEASURES = {
    "due": "Offered load: requests due, per s (dots: planned)",
    "attempts": "Attempts started (retries included), per s",
    "goodput": "Goodput: answers within the SLO, per s",
    "in_flight": "In flight: attempts running or waiting in the replicas",
    "waiting": "Queue: attempts waiting in the replicas",
    "hit": "Prefix-cache hit rate: prompt tokens found",
}
COLUMNS = {"router": "router", "t": "time, s", **{k: v.split(":")[0].split(" (")[0] for k, v in MEASURES.items()}}


def bin_s(scene: Scene, bins: int = BINS) -> float:
    """A round bin width that cuts the run into at most `bins` pieces."""
    return next((w for w in WIDTHS_S if scene.end_s / w <= bins), scene.end_s / bins)


def frame(con: duckdb.DuckDBPyConnection, scene: Scene, series: str, panel: str, bins: int = BINS) -> pl.DataFrame:
    """Means over seeds and over the seconds of a bin: one row a figure (`panel`), series `s` and bin; `<measure>_low/_high`
    span the seeds. `series` and `panel` name columns of `players`."""
    width = bin_s(scene, bins)
    spans = ", ".join(f"min({m}) AS {m}_low, avg({m}) AS {m}, max({m}) AS {m}_high" for m in MEASURES)
    found: pl.DataFrame = con.sql(f"""
        WITH binned AS (
            SELECT {panel} AS panel, {series} AS s, cell_id, floor(t_s / {width}) * {width} + {width / 2} AS t,
                   avg(scheduled) AS due, avg(attempts) AS attempts, avg(goodput) AS goodput, avg(in_flight) AS in_flight,
                   avg(waiting) AS waiting, avg(hit_rate) AS hit
            FROM seconds JOIN sound USING (cell_id)
            WHERE t_s < {scene.end_s}
            GROUP BY ALL)
        SELECT panel, s, t::DOUBLE AS t, {spans} FROM binned GROUP BY panel, s, t ORDER BY panel, s, t""").pl()
    return found


def stacked(rows: pl.DataFrame, scene: Scene, series: Sequence[Any], band: bool) -> Any:
    """The panels of all measures that `rows` have, one above the other on one time axis; above them what happens to the pool."""
    present = [m for m in MEASURES if rows[m].drop_nulls().len() > 0]
    panels = [_panel(rows, scene, series, m, last=m == present[-1], band=band) for m in present]
    happens = [strip(data, scene) for data in events(scene).values()]
    return alt.vconcat(*happens, *panels, spacing=14).add_params(focus()).resolve_scale(x="shared")


def _panel(rows: pl.DataFrame, scene: Scene, series: Sequence[Any], measure: str, last: bool, band: bool) -> Any:
    """One measure: shading, a band over seeds if asked, a line a series, and a hover rule that lists all values."""
    scale, axis = _vertical(rows, measure)
    base = named().encode(x=time_axis(scene, labels=last))
    colours = colour(series)
    layers = [shading(), *(marks() if events(scene) else [])]
    if band:
        low = alt.Y(f"{measure}_low:Q", scale=scale, axis=axis)
        area = base.mark_area(tooltip=None)
        layers.append(area.encode(y=low, y2=f"{measure}_high:Q", color=colours, opacity=focused(0.16, 0.03)))
    y = alt.Y(f"{measure}:Q", scale=scale, axis=axis)
    layers.append(base.mark_line(tooltip=None).encode(y=y, color=colours, strokeDash=dash(series), opacity=focused()))
    if measure == "due":
        layers.append(_plan(scale, axis))
    layers.append(_hover(base, measure, series))
    return alt.layer(*layers, title=alt.Title(MEASURES[measure])).properties(width=600, height=PANEL_PX)


def _plan(scale: Any, axis: Any) -> Any:
    """The planned load, dotted."""
    rule = named("planned").mark_rule(strokeDash=[1, 3], strokeWidth=1.5, tooltip=None)
    load = alt.Y("load_rps:Q", scale=scale, axis=axis)
    return rule.encode(x=alt.X("start_s:Q"), x2="end_s:Q", y=load, color=alt.value("var(--ink)"))


def _vertical(rows: pl.DataFrame, measure: str) -> tuple[Any, Any]:
    if measure == "hit":
        return alt.Scale(domain=[0, 1]), plain_axis(".0%")
    if measure in ("in_flight", "waiting"):
        highest = rows[f"{measure}_high"].max()
        return count_scale(float(highest) if isinstance(highest, int | float) else 0.0)
    return alt.Scale(zero=True), plain_axis()


def _hover(base: Any, measure: str, series: Sequence[Any]) -> Any:
    """Invisible rules, a bin wide, whose tooltip lists every series at that time."""
    number = ".0%" if measure == "hit" else ".3~s"
    fields = [alt.Tooltip("t:Q", title="time, s", format=".0f")]
    fields += [alt.Tooltip(f"{s.key}:Q", title=s.label, format=number) for s in series]
    pivot = base.transform_pivot("s", value=measure, groupby=["t"])
    return pivot.mark_rule(opacity=0, strokeWidth=4).encode(tooltip=fields, color=alt.value("var(--ink)"))


def timelines(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a condition; at most `BINS` rows a router."""
    everything = labelled(frame(con, scene, "router", "condition"), scene.routers, "router")
    if everything.is_empty():
        return []
    chart = stacked(everything, scene, scene.routers, band=len(scene.routers) <= 2)
    caption = (
        f"Mean over {runs(scene)} in bins of {bin_s(scene):g} s. {shaded(scene)} "
        "Counts in flight and queued are on a logarithmic scale where they span decades."
    )
    return [
        Figure(
            key=f"timeline-{condition.key}",
            title="What happened, second by second",
            tab=condition.label,
            caption=caption,
            chart=chart,
            data={
                "rows": slim(everything, condition.key, band=len(scene.routers) <= 2),
                **background(scene),
            },
            columns=COLUMNS,
            fit=Fit(columns=1, side_px=64),
        )
        for condition in scene.conditions
    ]


def slim(everything: pl.DataFrame, panel: str, band: bool) -> pl.DataFrame:
    """The rows of one figure, without what it does not draw."""
    spans = [c for c in everything.columns if c.endswith(("_low", "_high"))]
    return everything.filter(pl.col("panel") == panel).drop("panel", *(() if band else spans))


def runs(scene: Scene) -> str:
    return runs_told(scene) if len(scene.seeds) * scene.repeats > 1 else "one run"


def background(scene: Scene) -> "dict[str, pl.DataFrame]":
    """The data of all that is drawn behind the lines."""
    return {"stages": stages(scene), "planned": planned(scene), **events(scene)}


def shaded(scene: Scene) -> str:
    """What the shading and the marks mean, in words."""
    trigger = scene.trigger
    grey = "grey: warm-up and, at the end, the drain without arrivals."
    if trigger.placebo:
        said = "Grey: warm-up and drain. No burst was sent."
    elif trigger.kind == "several":
        said = f"Coloured band: the trigger, each setting with its own; {grey}"
    else:
        what = f"the trigger’s {trigger.d_s:g} s, which begin with {trigger.words}" if trigger.at_once else trigger.words
        load = ", then the load is back at its base" if trigger.adds_load else "; the load stays at its base"
        said = f"Coloured band: {what}{load}; {grey}"
    more = any(not event.is_trigger for event in scene.events)
    return f"{said} Dashed rules and bands: further events of the pool, numbered as in the strip." if more else said
