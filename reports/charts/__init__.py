"""Every chart of the page by name, in the page's order. A new chart is its file and one line here."""

from collections.abc import Callable

import duckdb

from reports.charts.answer_times import answer_times
from reports.charts.comebacks import comebacks
from reports.charts.cures import cures
from reports.charts.figure import Figure
from reports.charts.normal_day import normal_day
from reports.charts.shares import shares
from reports.charts.timelines import timelines
from reports.scene import Scene

CHARTS: dict[str, Callable[[duckdb.DuckDBPyConnection, Scene], list[Figure]]] = {
    "comebacks": comebacks,
    "cures": cures,
    "timelines": timelines,
    "normal_day": normal_day,
    "answer_times": answer_times,
    "shares": shares,
}
