"""Load per replica: how evenly each router spreads attempts and engine work over the pool. It does not judge."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import SPANS, colour, focus, focused, labelled, named, router_rows
from reports.scene import Scene
from reports.sentences import listed

MEASURES = {"attempts": "Attempts", "work": "Tokens computed"}
ROW_PX = 24


def frame(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Each replica's load relative to an equal share (1 = equal), pooled over seeds.

    Columns: panel (condition), s, span, replica, attempts, work (tokens prefilled and decoded).
    """
    found: pl.DataFrame = con.sql("""
        WITH sent AS (
            SELECT p.condition AS panel, p.router AS s, if(l.phase = 'steady', 'steady', 'after') AS span,
                   l.replica_id AS replica, sum(l.attempts)::DOUBLE AS attempts, sum(l.tokens)::DOUBLE AS work
            FROM replica_loads l JOIN sound p USING (cell_id)
            WHERE l.phase IN ('steady', 'trigger', 'recovery')
            GROUP BY ALL),
        pool AS (SELECT unnest(range(max(replicas))) AS replica FROM cell_facts JOIN sound USING (cell_id)),
        slots AS (SELECT k.panel, k.s, k.span, pool.replica FROM (SELECT DISTINCT panel, s, span FROM sent) k, pool)
        SELECT panel, s, span, replica,
               (coalesce(attempts, 0) / nullif(avg(coalesce(attempts, 0)) OVER one, 0))::DOUBLE AS attempts,
               (coalesce(work, 0) / nullif(avg(coalesce(work, 0)) OVER one, 0))::DOUBLE AS work
        FROM slots LEFT JOIN sent USING (panel, s, span, replica)
        WINDOW one AS (PARTITION BY panel, s, span) ORDER BY panel, s, span, replica""").pl()
    return found


def _panel(scene: Scene, measure: str, span: str, highest: float) -> Any:
    """A row a router, a dot a replica at its load relative to an equal share, a rule at 1."""
    axis = alt.Axis(title="× an equal share", format="~r", tickCount=5)
    dots = (
        named()
        .transform_filter(f"datum.span === '{span}'")
        .mark_point(filled=True, size=70, strokeWidth=0)
        .encode(
            y=router_rows(scene),
            x=alt.X(f"{measure}:Q", scale=alt.Scale(domain=[0, highest]), axis=axis),
            color=colour(scene.routers),
            opacity=focused(0.75, 0.1),
            tooltip=["router:N", "replica:O", alt.Tooltip(f"{measure}:Q", title="× an equal share", format=".3f")],
        )
    )
    fair = named("fair").mark_rule(strokeDash=[2, 3], tooltip=None).encode(x="fair:Q")
    title = f"{MEASURES[measure]}, {SPANS[span]}"
    return alt.layer(fair, dots, title=title).properties(width=320, height=ROW_PX * len(scene.routers))


def shares(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a condition, up to four panels; a row a router, replica and span."""
    everything = labelled(frame(con), scene.routers, "router")
    if everything.is_empty():
        return []
    tops = [float(v) for v in (everything["attempts"].max(), everything["work"].max()) if isinstance(v, int | float)]
    kinds = [(m, s) for s in SPANS for m in MEASURES if s in set(everything["span"])]
    panels = [_panel(scene, m, s, max([1.2, *tops]) * 1.05) for m, s in kinds]
    chart = alt.concat(*panels, columns=2, spacing=18).add_params(focus()).resolve_scale(y="independent")
    return [
        Figure(
            key=f"shares-{condition.key}",
            title="How evenly the load is spread",
            tab=condition.label,
            caption="A dot a replica, seeds pooled; 1 is an equal share. Tokens computed: prefilled and decoded, useful or not. "
            f"Dots far apart: hot replicas beside idle ones.{_untold(con, scene, everything, condition.key)}",
            chart=chart,
            data={
                "rows": everything.filter(pl.col("panel") == condition.key).drop("panel"),
                "fair": pl.DataFrame({"fair": [1.0]}),
            },
            columns={
                "router": "router",
                "span": "when",
                "replica": "replica",
                "attempts": "attempts, × equal share",
                "work": "tokens computed, × equal share",
            },
            fit=Fit(columns=2, min_px=380, side_px=182),
        )
        for condition in scene.conditions
    ]


def _untold(con: duckdb.DuckDBPyConnection, scene: Scene, rows: pl.DataFrame, condition: str) -> str:
    """Says which measured routers have no dots, because what stood there does not tell which replica answered."""
    drawn = set(rows.filter(pl.col("panel") == condition)["s"])
    ran = {key for (key,) in con.execute("SELECT DISTINCT router FROM sound WHERE condition = ?", [condition]).fetchall()}
    absent = [r.label for r in scene.routers if r.key in ran - drawn]
    return f" Not told which replica answered: {listed(absent)}." if absent and scene.pool.live else ""
