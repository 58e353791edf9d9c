"""The trend of one arm: a panel a metric, night on x, with levels, noise bands, changes and odd nights. It judges nothing."""

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import named
from reports.history.metrics import Metric
from reports.history.nights import ArmKey, dates
from reports.history.trends import History, Trend
from reports.sentences import RANGES

WIDTH, HEIGHT, Y_AXIS_PX = 300, 96, 40
ROWS = {
    "panel": pl.String, "night": pl.String, "at": pl.Int64, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "state": pl.String,
}  # fmt: skip
LEVELS = {"panel": pl.String, "from": pl.Int64, "to": pl.Int64, "level": pl.Float64, "low": pl.Float64, "high": pl.Float64}
CHANGES = {"panel": pl.String, "at": pl.Int64, "night": pl.String, "what": pl.String, "tint": pl.String}
DAY_MS = 86_400_000
TICKS = 4


def units(history: History) -> dict[Metric, tuple[str, float]]:
    """The panel title of each metric of this history and the factor of its values: times under a second in ms."""
    largest: dict[Metric, float] = {}
    for trend in history.trends:
        seen = [f.mean for f in trend.figures if f is not None and f.mean is not None]
        largest[trend.metric] = max([largest.get(trend.metric, 0.0), *seen])
    found = {}
    for metric, most in largest.items():
        unit, factor = {"time": ("s", 1.0), "share": ("%", 100.0), "count": ("", 1.0)}.get(metric.unit, (metric.unit, 1.0))
        if metric.unit == "time" and most < 1:
            unit, factor = "ms", 1000.0
        found[metric] = (f"{metric.words}{f', {unit}' if unit else ''}", factor)
    return found


def trend_chart(history: History, metrics: Sequence[Metric]) -> Any:
    """The chart that all arms of a history share; its data are those of `trend_figure`."""
    titles = units(history)
    at = [_ms(night.started_utc) for night in history.nights]
    pad = max(60_000, (at[-1] - at[0]) // 40)
    span = [at[0] - pad, at[-1] + pad]
    ticks = sorted({at[round(i * (len(at) - 1) / (TICKS - 1))] for i in range(TICKS)})
    panels = [_panel(titles[metric][0], span, ticks) for metric in metrics]
    return alt.concat(*panels, columns=3, spacing=14).resolve_scale(x="independent", y="independent")


def trend_figure(history: History, arm: ArmKey, trends: Sequence[Trend], chart: Any, key: str, title: str) -> Figure:
    """One arm's figure. `chart` is that of `trend_chart`."""
    titles, called = units(history), dates(history.nights)
    at = [_ms(night.started_utc) for night in history.nights]
    rows: list[tuple[Any, ...]] = []
    levels: list[tuple[Any, ...]] = []
    changes: list[tuple[Any, ...]] = []
    for trend in trends:
        panel, factor = titles[trend.metric]
        for i, figure in enumerate(trend.figures):
            if figure is not None and (figure.mean is not None or figure.censored):
                limits = (_within(trend.metric, limit) for limit in (figure.low, figure.high))
                numbers = [None if v is None else v * factor for v in (figure.mean, *limits)]
                rows.append((panel, called[i], at[i], *numbers, _state(history, trend, i)))
        for level in trend.levels:
            if level.value is not None and level.low is not None and level.high is not None:
                band = [_within(trend.metric, limit) or 0.0 for limit in (level.low, level.high)]
                numbers = [v * factor for v in (level.value, *band)]
                levels.append((panel, at[level.first], at[level.last], *numbers))
        for shift in history.shifts:
            if shift.arm == arm and shift.metric == trend.metric:
                what = f"{'worse' if shift.worse else 'better'}, {'likely' if shift.settled is None else 'sure'}"
                tint = "var(--bad)" if shift.worse else "var(--good)"
                changes.append((panel, at[shift.since], called[shift.since], what, tint))
    return Figure(
        key=key,
        title=title,
        caption="A dot a night: mean over seeds with its 95% interval. Steps: levels, shaded by what nights of one level differ"
        " by (±2 standard deviations); upright: the first night of a new level, red for worse and green for better. Open dot: an"
        " odd night. Cross: a void night, not judged. Triangle at the top: beyond all that was answered. Axes do not start at 0.",
        chart=chart,
        data={
            "rows": pl.DataFrame(rows, schema=ROWS, orient="row"),
            "levels": pl.DataFrame(levels, schema=LEVELS, orient="row"),
            "changes": pl.DataFrame(changes, schema=CHANGES, orient="row"),
        },
        columns={"panel": "metric", "night": "night", "mean": "mean", "low": "95% low", "high": "95% high", "state": "state"},
        fit=Fit(columns=3, min_px=300, side_px=66),
    )


def _panel(title: str, span: list[int], ticks: list[int]) -> Any:
    label = f"utcFormat(datum.value, '{'%-d %b' if span[1] - span[0] > 2 * DAY_MS else '%-d %b %H:%M'}')"
    scale = alt.Scale(domain=span, nice=False, zero=False)
    x_axis = alt.Axis(title=None, grid=False, values=ticks, labelExpr=label, labelOverlap="greedy", labelFlush=45)
    x = alt.X("at:Q", scale=scale, axis=x_axis)
    axis = alt.Axis(title=None, tickCount=3, minExtent=Y_AXIS_PX, maxExtent=Y_AXIS_PX, format="~r")
    y = alt.Y("mean:Q", scale=alt.Scale(zero=False, nice=True), axis=axis)
    only = f"datum.panel === {_quoted(title)}"
    tip = [
        alt.Tooltip("night:N"),
        *(alt.Tooltip(f"{f}:Q", title=t, format=".4~r") for f, t in (("mean", "mean"), ("low", "95% low"), ("high", "95% high"))),
        alt.Tooltip("state:N"),
    ]
    levels, changes, nights = (named(data).transform_filter(only) for data in ("levels", "changes", "rows"))
    start, until = alt.X("from:Q", scale=scale, axis=x_axis), "to:Q"
    shade = levels.mark_rect(color="var(--ink)", opacity=0.09, tooltip=None)
    band = shade.encode(x=start, x2=until, y=alt.Y("low:Q"), y2="high:Q")
    line = levels.mark_rule(color="var(--ink)", strokeWidth=1.2, tooltip=None).encode(x=start, x2=until, y=alt.Y("level:Q"))
    change = changes.mark_rule(strokeDash=[4, 2], strokeWidth=1.5).encode(
        x=x, color=alt.Color("tint:N", scale=None), tooltip=[alt.Tooltip("night:N", title="since"), "what:N"]
    )
    colour = "var(--r0)"
    seeds = nights.mark_rule(color=colour, strokeWidth=1, opacity=0.45, tooltip=None).encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    dots = _of(nights, "").mark_point(color=colour, filled=True, size=18, strokeWidth=0).encode(x=x, y=y, tooltip=tip)
    odd = _of(nights, "odd").mark_point(color=colour, filled=False, size=42, strokeWidth=1.5).encode(x=x, y=y, tooltip=tip)
    void = (
        _of(nights, "void")
        .mark_point(color="var(--soft)", shape="cross", size=40, strokeWidth=0, filled=True)
        .encode(x=x, y=y, tooltip=tip)
    )
    beyond = (
        _of(nights, "beyond")
        .mark_point(color="var(--bad)", shape="triangle-up", filled=True, size=40)
        .encode(x=x, y=alt.value(5), tooltip=tip)
    )
    return alt.layer(band, seeds, line, change, dots, odd, void, beyond, title=title).properties(width=WIDTH, height=HEIGHT)


def _of(nights: Any, state: str) -> Any:
    return nights.transform_filter(f"datum.state === {_quoted(state)}")


def _state(history: History, trend: Trend, night: int) -> str:
    figure = trend.figures[night]
    if figure is not None and figure.mean is None:
        return "beyond"
    if history.nights[night].void:
        return "void"
    return "odd" if night in trend.outliers else ""


def _within(metric: Metric, value: float | None) -> float | None:
    """A limit within what the metric can be (few seeds give intervals beyond it)."""
    least, most = RANGES.get(metric.unit, (0.0, math.inf))
    return None if value is None else max(least, min(most, value))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _ms(started_utc: str) -> int:
    return math.floor(datetime.fromisoformat(started_utc).timestamp() * 1000)
