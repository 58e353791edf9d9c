"""Burstiness against the time scale: the index of dispersion of counts. It fits no process."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.trace_charts.axes import DOTS, LINE, NO_CLOCK, SIDE_PX, log_axis, rows, sized


def dispersion(description: Mapping[str, Any]) -> Figure | str:
    """Variance over mean of the counts per window, both axes logarithmic, with Poisson's line at 1."""
    curve = description.get("dispersion") or {"window_s": [], "iod": []}
    points = [(w, i) for w, i in zip(curve["window_s"], curve["iod"], strict=True) if i > 0]
    if not description.get("arrivals"):
        return NO_CLOCK
    if len(points) < 2:
        return "No burstiness by time scale: too few events, or all evenly spaced."
    frame = pl.DataFrame(points, schema=["window", "iod"], orient="row")
    tip = [alt.Tooltip("window:Q", title="window, s", format=".3~r"), alt.Tooltip("iod:Q", title="IoD", format=".3~r")]
    low, high = 0.8 * min(1.0, *(i for _, i in points)), 1.25 * max(1.0, *(i for _, i in points))
    x_axis = log_axis("window, seconds", points[0][0], points[-1][0])
    x = alt.X("window:Q", scale=alt.Scale(type="log", nice=False), axis=x_axis)
    y_scale = alt.Scale(type="log", domain=[low, high], nice=False)
    y = alt.Y("iod:Q", scale=y_scale, axis=log_axis("variance ÷ mean of the counts", low, high))
    line = rows().mark_line(color=LINE, point=DOTS).encode(x=x, y=y, tooltip=tip)
    poisson = alt.Chart(alt.NamedData(name="poisson"))
    rule = poisson.mark_rule(strokeDash=[4, 3]).encode(y=alt.Y("iod:Q"))
    label = poisson.mark_text(align="right", baseline="bottom", dy=-3).encode(x="window:Q", y="iod:Q", text="label:N")
    return Figure(
        key="dispersion",
        title="Burstiness by time scale",
        caption="Index of dispersion: variance over mean of session starts in windows of each length. Poisson stays at 1; "
        "a rising line means bursts or drift that a gap-by-gap look (the CV) does not show.",
        chart=sized(alt.layer(line, rule, label)),
        data={
            "rows": frame,
            "poisson": pl.DataFrame({"window": [frame["window"].max()], "iod": [1.0], "label": ["Poisson = 1"]}),
        },
        columns={"window": "window, s", "iod": "variance ÷ mean"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )
