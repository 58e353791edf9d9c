"""One router under every client and guard on one time axis: the collapse beside its cure. It does not judge."""

import duckdb

from reports.arms import NOT_BACK
from reports.charts.figure import Figure, Fit
from reports.charts.panels import labelled
from reports.charts.timelines import COLUMNS, background, bin_s, frame, runs, shaded, slim, stacked
from reports.scene import Scene

BINS = 150


def cures(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a router with a line a condition; none where the study has one condition only."""
    if len(scene.conditions) < 2:
        return []
    everything = labelled(frame(con, scene, "condition", "router", BINS), scene.conditions, "condition")
    if everything.is_empty():
        return []
    chart = stacked(everything, scene, scene.conditions, band=True)
    caption = f"Line: mean over {runs(scene)} in bins of {bin_s(scene, BINS):g} s; band: lowest to highest run. {shaded(scene)}"
    return [
        Figure(
            key=f"cure-{router}",
            title="The same router under each client and guard",
            tab=scene.router(router).label,
            caption=caption,
            chart=chart,
            data={"rows": slim(everything, router, band=True), **background(scene)},
            columns={"condition": "client and guard", **{k: v for k, v in COLUMNS.items() if k != "router"}},
            fit=Fit(columns=1, side_px=64),
            by_router=False,
        )
        for router in telling_first(con, scene)
    ]


def telling_first(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[str]:
    """Router keys, the one whose share of collapsed runs differs most between conditions first; then in the scene's order."""
    shares = con.execute(
        """
        WITH ends AS (
            SELECT p.router, p.condition, coalesce(list_contains(?, v.verdict), false) AS collapsed
            FROM verdicts v JOIN players p USING (cell_id)),
        shares AS (SELECT router, condition, avg(collapsed::INT) AS share FROM ends GROUP BY ALL)
        SELECT router, max(share) - min(share) FROM shares GROUP BY router""",
        [list(NOT_BACK)],
    ).fetchall()
    spread = {str(router): float(difference) for router, difference in shares}
    present = [r.key for r in scene.routers if r.key in spread]
    return sorted(present, key=lambda key: (scene.router(key).reference, -spread[key], present.index(key)))
