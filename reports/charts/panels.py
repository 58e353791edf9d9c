"""Pieces that several charts are built of: phase shading, the focus parameter, series colours. It reads no data."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import polars as pl

from reports.scene import Scene

Y_AXIS_PX = 46
LABELS_PX = 150
SERIES_FIELD = "s"
TINTS = {"warmup": "var(--shade)", "drain": "var(--shade)", "trigger": "var(--burst)"}
SPANS = {"steady": "normal day", "after": "from the trigger on"}


def named(name: str = "rows") -> Any:
    """A chart on the figure's data of that name."""
    return alt.Chart(alt.NamedData(name=name))


def focus() -> Any:
    """The series that the reader singled out on the page ('' = all)."""
    return alt.param(name="focus", value="")


def focused(full: float = 1.0, faint: float = 0.12) -> Any:
    """Opacity by focus: the chosen series stays, the others fade."""
    return alt.condition(f"focus === '' || focus === datum.{SERIES_FIELD}", alt.value(full), alt.value(faint))


def colour(series: Sequence[Any]) -> Any:
    """The `color` encoding of routers or conditions (anything with key and colour); the page has the legend."""
    scale = alt.Scale(domain=[s.key for s in series], range=[s.colour for s in series])
    return alt.Color(f"{SERIES_FIELD}:N", legend=None, scale=scale)


def dash(series: Sequence[Any]) -> Any:
    """The `strokeDash` encoding, so that colour is never the only sign."""
    scale = alt.Scale(domain=[s.key for s in series], range=[s.dash or [1, 0] for s in series])
    return alt.StrokeDash(f"{SERIES_FIELD}:N", legend=None, scale=scale)


def router_rows(scene: Scene) -> Any:
    """The y axis of charts with a row a router, in the scene's order."""
    axis = alt.Axis(title=None, minExtent=LABELS_PX, maxExtent=LABELS_PX, grid=True, labelLimit=LABELS_PX - 8)
    return alt.Y("router:N", scale=alt.Scale(domain=[r.label for r in scene.routers]), axis=axis)


def labelled(rows: pl.DataFrame, series: Sequence[Any], column: str) -> pl.DataFrame:
    """`rows` with the series' labels in `column`."""
    names = {s.key: s.label for s in series}
    return rows.with_columns(pl.col(SERIES_FIELD).replace_strict(names, return_dtype=pl.String).alias(column))


def time_axis(scene: Scene, labels: bool, field: str = "t") -> Any:
    """The shared time axis: seconds from the run's start, to the end of the last phase."""
    axis = alt.Axis(labels=labels, title="seconds from the run’s start" if labels else None, grid=False, tickCount=8)
    return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, scene.end_s], nice=False), axis=axis)


def stages(scene: Scene) -> pl.DataFrame:
    """Data of `shading`: warm-up and drain faint, the trigger in its own colour; steady and recovery stay plain."""
    rows = [(s.start_s, s.end_s, TINTS[s.name]) for s in scene.stages if s.name in TINTS and s.end_s > s.start_s]
    return pl.DataFrame(rows, schema={"start_s": pl.Float64, "end_s": pl.Float64, "tint": pl.String}, orient="row")


def shading() -> Any:
    """Bands behind a panel, from the data `stages`."""
    fill = alt.Fill("tint:N", scale=None)
    return named("stages").mark_rect(tooltip=None).encode(x=alt.X("start_s:Q"), x2="end_s:Q", fill=fill, stroke=alt.value(None))


def planned(scene: Scene) -> pl.DataFrame:
    """Data `planned`: the planned load of each stage."""
    rows = [(s.start_s, s.end_s, s.load_rps) for s in scene.stages if s.load_rps is not None]
    return pl.DataFrame(rows, schema={"start_s": pl.Float64, "end_s": pl.Float64, "load_rps": pl.Float64}, orient="row")


def count_scale(highest: float) -> tuple[Any, Any]:
    """Scale and axis of a count that spans decades: linear up to 200, beyond that symmetric-log with decade ticks."""
    if highest <= 200:
        return alt.Scale(zero=True), alt.Axis(title=None, minExtent=Y_AXIS_PX, maxExtent=Y_AXIS_PX)
    ticks = [0.0] + [10.0**n for n in range(1, 9) if 10.0**n <= highest * 1.5]
    label = "datum.value < 1000 ? datum.value : format(datum.value / 1000, '~r') + 'k'"
    axis = alt.Axis(title=None, values=ticks, labelExpr=label, labelOverlap="greedy", minExtent=Y_AXIS_PX, maxExtent=Y_AXIS_PX)
    return alt.Scale(type="symlog", constant=1, domainMin=0), axis


def plain_axis(number_format: str = "~s") -> Any:
    return alt.Axis(title=None, format=number_format, minExtent=Y_AXIS_PX, maxExtent=Y_AXIS_PX)
