"""The mean rate in each hour of the day. It does not tell weekdays from weekends."""

from collections.abc import Mapping
from typing import Any

import altair as alt
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.trace_charts.axes import FILL, NO_CLOCK, SIDE_PX, rows, sized, value_axis


def hours(description: Mapping[str, Any]) -> Figure | str:
    """24 bars; hours of the day in UTC, or counted from the first event where the trace has no dates."""
    profile = description.get("hours")
    if not description.get("arrivals"):
        return NO_CLOCK
    if not profile:
        return "No hour-of-day profile: the trace spans less than two days."
    frame = pl.DataFrame({"hour": list(range(24)), "rate": profile["rate_rps"], "seen": profile["hours_seen"]})
    title = "hour of the day, UTC" if profile["dated"] else "hours from the first event, modulo 24"
    tip = [alt.Tooltip("hour:Q", title=title), alt.Tooltip("rate:Q", title="sessions/s", format=".3~r")]
    x = alt.X("hour:O", axis=alt.Axis(title=title, labelAngle=0, labelOverlap="greedy"))
    y = alt.Y("rate:Q", axis=value_axis("sessions a second", "~r"))
    return Figure(
        key="hours",
        title="Hour of the day",
        caption="Mean session starts a second in each hour of the day, over all days of the trace.",
        chart=sized(rows().mark_bar(color=FILL).encode(x=x, y=y, tooltip=tip)),
        data={"rows": frame},
        columns={"hour": title, "rate": "sessions/s", "seen": "hours of trace"},
        fit=Fit(columns=1, side_px=SIDE_PX),
    )
