"""Every chart of the page by name, in the page's order. A new chart is its file and one line here."""

from collections.abc import Callable

import duckdb

from reports.charts.answer_times import answer_times
from reports.charts.comebacks import comebacks
from reports.charts.cures import cures
from reports.charts.figure import Figure
from reports.charts.instruments import instruments
from reports.charts.normal_day import normal_day
from reports.charts.prefix_hits import prefix_hits
from reports.charts.shares import shares
from reports.charts.timelines import timelines
from reports.charts.twin_errors import twin_errors
from reports.scene import Scene

CHARTS: dict[str, Callable[[duckdb.DuckDBPyConnection, Scene], list[Figure]]] = {
    "comebacks": comebacks,
    "cures": cures,
    "timelines": timelines,
    "normal_day": normal_day,
    "answer_times": answer_times,
    "shares": shares,
    "instruments": instruments,
    "prefix_hits": prefix_hits,
    "twin_errors": twin_errors,
}
