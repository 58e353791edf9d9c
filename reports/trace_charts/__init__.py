"""Every chart of a trace's page by name, in the page's order. A new chart is its file and one line here."""

from collections.abc import Callable, Mapping
from typing import Any

from reports.charts.figure import Figure
from reports.trace_charts.cache_size import cache_size
from reports.trace_charts.dispersion import dispersion
from reports.trace_charts.hours import hours
from reports.trace_charts.lengths import input_lengths, output_lengths, think_times, turn_counts
from reports.trace_charts.rate import rate
from reports.trace_charts.tenants import tenants

Drawn = Figure | str
"""A figure, or why there is none: one sentence."""

TRACE_CHARTS: dict[str, Callable[[Mapping[str, Any]], Drawn]] = {
    "rate": rate,
    "dispersion": dispersion,
    "hours": hours,
    "input_lengths": input_lengths,
    "output_lengths": output_lengths,
    "turn_counts": turn_counts,
    "think_times": think_times,
    "cache_size": cache_size,
    "tenants": tenants,
}
