"""What happens to the pool, drawn on a time axis: a strip of numbered bars with labels, and marks behind other panels.

It does not know what an event hit.
"""

from typing import Any

import altair as alt
import polars as pl

from reports.charts.panels import Y_AXIS_PX, named, shading, time_axis
from reports.event_words import long_words, short_words
from reports.scene import PoolEvent, Scene

LANE_PX = 18
NARROWEST_PX, LETTER_PX, GAP_PX = 290, 6.0, 12  # a phone's plot, and what a label takes of it
_SIDES: dict[str, tuple[str, str, int, str]] = {
    "right": ("end_s", "left", 6, "var(--ink)"),
    "left": ("start_s", "right", -6, "var(--ink)"),
    "inside": ("start_s", "left", 6, "var(--page)"),
}
MOST_LABELS = 12  # beyond that, numbers alone are drawn
DATA = "events"
SCHEMA = {"start_s": pl.Float64, "end_s": pl.Float64, "lane": pl.Int64, "label": pl.String, "side": pl.String, "what": pl.String,
          "ink": pl.String, "tint": pl.String, "more": pl.Boolean}  # fmt: skip


def events(scene: Scene) -> dict[str, pl.DataFrame]:
    """Data of the marks; none where nothing happens to replicas within the axis.

    Columns: start_s, end_s (cut to the axis), lane (bars and labels of one lane do not touch), label and its side, what, ink,
    tint, more (true for events besides the trigger).
    """
    seen = [event for event in scene.events if event.t_s < scene.end_s]
    if not seen:
        return {}
    rows, lanes = [], list[float]()
    for event in seen:
        label = str(event.number) if len(seen) > MOST_LABELS else f"{event.number}. {short_words(event)}"
        end_s = min(event.end_s, scene.end_s)
        side, first_s, last_s = _room(scene, event.t_s, end_s, label)
        lane = next((i for i, taken_s in enumerate(lanes) if taken_s <= first_s), len(lanes))
        lanes[lane : lane + 1] = [last_s]
        rows.append((event.t_s, end_s, lane, label, side, long_words(event), *_colours(event), not event.is_trigger))
    return {DATA: pl.DataFrame(rows, schema=SCHEMA, orient="row")}


def _room(scene: Scene, start_s: float, end_s: float, label: str) -> tuple[str, float, float]:
    """Where the label has room (right of the bar, left of it, inside), and from when to when both lie on a narrow screen."""
    need_s = (len(label) * LETTER_PX + GAP_PX) / NARROWEST_PX * scene.end_s
    right_s, left_s = scene.end_s - end_s, start_s
    if max(right_s, left_s) < need_s <= end_s - start_s:
        return "inside", start_s, end_s
    if right_s >= min(need_s, left_s):
        return "right", start_s, end_s + need_s
    return "left", start_s - need_s, end_s


def _colours(event: PoolEvent) -> tuple[str, str]:
    return ("var(--warn)", "var(--burst)") if event.is_trigger else ("var(--event)", "var(--event-shade)")


def strip(rows: pl.DataFrame, scene: Scene) -> Any:
    """The strip: a bar an event (a diamond where it strikes at once) in its lane, its number and short words beside it."""
    lanes = int(rows["lane"].max() or 0) + 1  # type: ignore[arg-type]
    axis = alt.Axis(labels=False, ticks=False, domain=False, grid=False, title=None, minExtent=Y_AXIS_PX, maxExtent=Y_AXIS_PX)
    y = alt.Y("lane:O", scale=alt.Scale(domain=list(range(lanes)), paddingInner=0.25, paddingOuter=0.15), axis=axis)
    tooltip = [
        alt.Tooltip("what:N", title="event"),
        alt.Tooltip("start_s:Q", title="from, s"),
        alt.Tooltip("end_s:Q", title="to, s"),
    ]
    base = named(DATA).encode(y=y, color=alt.Color("ink:N", scale=None))
    at = time_axis(scene, labels=False, field="start_s")
    bars = base.transform_filter("datum.end_s > datum.start_s").mark_bar(cornerRadius=2, opacity=1)
    points = base.transform_filter("datum.end_s <= datum.start_s").mark_point(shape="diamond", filled=True, size=80, opacity=1)
    layers = [shading(), bars.encode(x=at, x2="end_s:Q", tooltip=tooltip), points.encode(x=at, tooltip=tooltip)]
    for side, (place, align, dx, ink) in _SIDES.items():
        text = base.transform_filter(f"datum.side === '{side}'").mark_text(align=align, dx=dx, tooltip=None)
        layers.append(text.encode(x=alt.X(f"{place}:Q"), text="label:N", color=alt.value(ink)))
    title = alt.Title("What happens to the pool")
    return alt.layer(*layers, title=title).properties(width=600, height=LANE_PX * lanes)


def marks() -> list[Any]:
    """Behind a panel: a rule where an event begins, a band while one besides the trigger lasts."""
    base = named(DATA).transform_filter("datum.more")
    x = alt.X("start_s:Q")
    band = base.mark_rect(tooltip=None).encode(x=x, x2="end_s:Q", fill=alt.Fill("tint:N", scale=None), stroke=alt.value(None))
    rule = base.mark_rule(strokeDash=[3, 3], tooltip=None).encode(x=x, color=alt.Color("ink:N", scale=None))
    return [band, rule]
