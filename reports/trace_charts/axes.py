"""Axes and lines that several charts of a trace share. It reads no description."""

from math import floor, log10
from typing import Any

import altair as alt

WIDTH, HEIGHT, SIDE_PX = 420, 200, 80
LABELS_PX = 40
LINE, FILL, MARK = "var(--r0)", "var(--r5)", "var(--r1)"
NO_CLOCK = "Nothing over time: the trace has no clock."
DOTS = alt.OverlayMarkDef(size=24, color=LINE, filled=True)
_PLAIN = (
    "datum.value < 1 ? format(datum.value, '.3~f') : datum.value < 1000 ? format(datum.value, '~r') : format(datum.value, '~s')"
)


def rows() -> Any:
    """A chart on the figure's rows."""
    return alt.Chart(alt.NamedData(name="rows"))


def log_axis(title: str, low: float, high: float) -> Any:
    """Ticks at decades, at 1, 2 and 5 of each where there are few, as plain numbers: 0.1, 10, 1k, 1M."""
    decades = range(floor(log10(low)), floor(log10(high)) + 1)
    steps = (1, 2, 5) if len(decades) <= 3 else (1,)
    ticks = [step * 10.0**n for n in decades for step in steps if low <= step * 10.0**n <= high * (1 + 1e-9)]
    return alt.Axis(title=title, values=ticks, labelExpr=_PLAIN, labelOverlap="greedy", grid=True)


def value_axis(title: str, number_format: str = "~s") -> Any:
    return alt.Axis(title=title, format=number_format, tickCount=5, minExtent=LABELS_PX, maxExtent=LABELS_PX, titlePadding=4)


def sized(chart: Any) -> Any:
    """The width is the page's to change; see `Fit`."""
    return chart.properties(width=WIDTH, height=HEIGHT)
