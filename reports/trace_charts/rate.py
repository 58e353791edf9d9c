"""Session starts a second over the trace. It does not say why they change."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.sentences import seconds
from reports.trace_charts.axes import LINE, NO_CLOCK, SIDE_PX, rows, sized, value_axis

_UNITS = ((172_800.0, 86_400.0, "days"), (7_200.0, 3_600.0, "hours"), (300.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


def rate(description: Mapping[str, Any]) -> Figure | str:
    """A step line with at most 400 bins; UTC where the trace is dated, else time from its first event."""
    series = description.get("rate_series")
    if not description.get("arrivals"):
        return NO_CLOCK
    if not series or len(series["rate_rps"]) < 2:
        return "No course over time: the trace is too short."
    bin_s, start = float(series["bin_s"]), series["start_utc"]
    spans = [i * bin_s for i in range(len(series["rate_rps"]))]
    mean = float(description["arrivals"]["rate_rps"])
    if start:
        begin = datetime.fromisoformat(start)
        at = [(begin + timedelta(seconds=s)).isoformat().replace("+00:00", "Z") for s in spans]
        frame = pl.DataFrame({"at": at, "rate": series["rate_rps"]})
        clock = "%H:%M" if spans[-1] < 2 * 86_400 else "%d %b"
        axis = alt.Axis(title="UTC", grid=False, tickCount=8, labelOverlap="greedy", format=clock)
        x, named = alt.X("at:T", scale=alt.Scale(type="utc", nice=False), axis=axis), "from, UTC"
    else:
        length, unit = next((length, unit) for least, length, unit in _UNITS if spans[-1] + bin_s >= least)
        frame = pl.DataFrame({"at": [s / length for s in spans], "rate": series["rate_rps"]})
        axis = alt.Axis(title=f"{unit} from the first event", grid=False, tickCount=8)
        x, named = alt.X("at:Q", scale=alt.Scale(nice=False), axis=axis), f"from, {unit}"
    when = alt.Tooltip("at:T", title=named, format="%Y-%m-%d %H:%M:%S") if start else alt.Tooltip("at:Q", title=named)
    tip = [when, alt.Tooltip("rate:Q", title="sessions/s", format=".3~r")]
    y = alt.Y("rate:Q", scale=alt.Scale(zero=True), axis=value_axis("sessions a second", "~r"))
    line = rows().mark_line(interpolate="step-after", color=LINE, strokeWidth=1.3).encode(x=x, y=y, tooltip=tip)
    level = alt.Chart(alt.NamedData(name="mean")).mark_rule(strokeDash=[4, 3]).encode(y="rate:Q")
    return Figure(
        key="rate",
        title="Session starts over time",
        caption=f"Session starts a second, in bins of {seconds(bin_s)}; dashed: the mean, {mean:.3g}/s.",
        chart=sized(alt.layer(line, level)),
        data={"rows": frame, "mean": pl.DataFrame({"rate": [mean]})},
        columns={"at": named, "rate": "sessions/s"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )
