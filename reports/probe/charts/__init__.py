"""Every chart of a probe's page, by the section that it stands in. A new chart is its file and one line here."""

from collections.abc import Callable

import duckdb

from reports.charts.figure import Figure
from reports.probe.charts.before_after import before_after
from reports.probe.charts.capacities import capacities
from reports.probe.charts.comeback_times import comeback_times
from reports.probe.charts.frontier import frontier
from reports.probe.charts.loops import loops
from reports.probe.charts.portraits import portraits
from reports.probe.charts.recovery_map import recovery_map
from reports.probe.scene import ProbeScene

CHARTS: dict[str, Callable[[duckdb.DuckDBPyConnection, ProbeScene], list[Figure]]] = {
    "frontier": frontier,
    "recovery_map": recovery_map,
    "capacities": capacities,
    "loops": loops,
    "comeback_times": comeback_times,
    "portraits": portraits,
    "before_after": before_after,
}
