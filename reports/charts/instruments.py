"""Engines, gateway and GPUs of a live pool under its goodput, on one time axis: a line a replica or card. It does not judge."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports import theme
from reports.charts.event_marks import events, marks, strip
from reports.charts.figure import MAX_ROWS, Figure, Fit
from reports.charts.panels import colour, dash, focus, focused, named, plain_axis, shading, time_axis
from reports.charts.timelines import BINS, background, bin_s, runs, shaded
from reports.scene import Router, Scene

PANEL_PX = 84
POOL, GATEWAY = "pool", "gateway"
MEASURES = {
    "goodput": "Goodput: answers within the SLO, per s",
    "running": "Running: attempts in each engine’s batch",
    "waiting": "Waiting: attempts in each engine’s queue",
    "kv": "KV use: share of each engine’s cache that is held",
    "hit": "Prefix hits: prompt tokens found, by each engine’s counters",
    "cores": "Gateway: processors in use",
    "memory_mb": "Gateway: resident memory, MB",
    "busy": "GPU: share of time with a kernel running",
    "gpu_gb": "GPU: memory in use, GB",
}
SHARES = ("kv", "hit", "busy")
COLUMNS = {"router": "router", "name": "of", "t": "time, s", **{k: v.split(",")[0] for k, v in MEASURES.items()}}


def frame(con: duckdb.DuckDBPyConnection, scene: Scene, bins: int = BINS) -> pl.DataFrame:
    """One row an arm (panel = condition, router), thing (s, name) and bin: means over its sound runs and the bin's seconds.

    Things: `pool` (goodput), each replica (running, waiting, kv 0–1, hit 0–1), `gateway` (cores, memory_mb), each card (busy 0–1,
    gpu_gb). A thing's other columns are NULL. Counters are differenced within each run before runs are added up.
    """
    width = bin_s(scene, bins)
    t = f"(floor(t_s / {width}) * {width} + {width / 2})::DOUBLE AS t"
    within = f"t_s < {scene.end_s}"
    arm = "p.condition AS panel, p.router AS router"
    found: pl.DataFrame = con.sql(f"""
        WITH grown AS (
            SELECT *,
                   prefix_hit_tokens - lag(prefix_hit_tokens, 1, 0) OVER replica AS hits,
                   prefix_query_tokens - lag(prefix_query_tokens, 1, 0) OVER replica AS queries
            FROM samples WINDOW replica AS (PARTITION BY cell_id, replica_id ORDER BY t_s))
        SELECT {arm}, '{POOL}' AS s, NULL::BIGINT AS number, NULL::VARCHAR AS card, {t}, avg(goodput)::DOUBLE AS goodput,
               NULL::DOUBLE AS running, NULL::DOUBLE AS waiting, NULL::DOUBLE AS kv, NULL::DOUBLE AS hit, NULL::DOUBLE AS cores,
               NULL::DOUBLE AS memory_mb, NULL::DOUBLE AS busy, NULL::DOUBLE AS gpu_gb
        FROM seconds JOIN sound p USING (cell_id) WHERE {within} GROUP BY ALL
        UNION ALL BY NAME
        SELECT {arm}, 'replica' AS s, replica_id AS number, {t}, avg(running) AS running, avg(waiting) AS waiting,
               avg(kv_used) AS kv, (sum(hits) / nullif(sum(queries), 0))::DOUBLE AS hit
        FROM grown JOIN sound p USING (cell_id) WHERE {within} GROUP BY ALL
        UNION ALL BY NAME
        SELECT {arm}, '{GATEWAY}' AS s, {t}, avg(cores) AS cores, avg(memory_bytes) / 1e6 AS memory_mb
        FROM gateway_samples JOIN sound p USING (cell_id) WHERE {within} GROUP BY ALL
        UNION ALL BY NAME
        SELECT {arm}, 'card' AS s, card, {t}, avg(busy) AS busy, avg(memory_used_bytes) / 1e9 AS gpu_gb
        FROM gpu_samples JOIN sound p USING (cell_id) WHERE {within} GROUP BY ALL
        ORDER BY panel, router, s, number, card, t""").pl()
    return found


def _series(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> tuple[tuple[Router, ...], dict[tuple[str, str], str]]:
    """Everything drawn, each with a colour of its own, and the key of each (kind, number or card)."""
    found = con.sql("SELECT DISTINCT replica_id, served_by FROM engines SEMI JOIN sound USING (cell_id)").fetchall()
    served_by: dict[str, str] = {str(replica): engine for replica, engine in found}
    replicas = [str(n) for n in sorted(rows["number"].drop_nulls().unique().to_list())]
    cards = sorted(rows["card"].drop_nulls().unique().to_list())
    things = [("replica", n, f"replica {n}" + (f" ({served_by[n]})" if n in served_by else "")) for n in replicas]
    things += [("card", card, f"GPU {card}") for card in cards]
    keys = {(kind, name): f"{kind[0]}{i}" for i, (kind, name, _) in enumerate(things)}
    cast = [
        Router(keys[kind, name], label, theme.router_colour(i), theme.router_dash(i))
        for i, (kind, name, label) in enumerate(things)
    ]
    return tuple(cast), keys


def _panel(rows: pl.DataFrame, scene: Scene, series: Sequence[Router], measure: str, last: bool) -> Any:
    """One measure: shading, a line a thing that has it, and a hover rule that lists all values."""
    share = measure in SHARES
    empty = not rows[measure].max()  # an axis from 0 to 0 would draw its line in the middle
    scale = alt.Scale(domain=[0, 1]) if share or empty else alt.Scale(zero=True)
    axis = plain_axis(".0%") if share else plain_axis("~r")
    number = ".0%" if share else ".3~r"
    y = alt.Y(f"{measure}:Q", scale=scale, axis=axis)
    base = named().transform_filter(f"isValid(datum.{measure})").encode(x=time_axis(scene, labels=last))
    layers = [shading(), *(marks() if events(scene) else [])]
    if measure in ("goodput", "cores", "memory_mb"):
        lone = base.encode(color=alt.value("var(--ink)"))
        fields = [alt.Tooltip("t:Q", title="time, s", format=".0f"), alt.Tooltip(f"{measure}:Q", title=measure, format=number)]
        layers.append(lone.mark_line(tooltip=None).encode(y=y))
        layers.append(lone.mark_rule(opacity=0, strokeWidth=4).encode(tooltip=fields))
    else:
        drawn = [s for s in series if s.key.startswith("c") == (measure in ("busy", "gpu_gb"))]
        line = base.mark_line(tooltip=None)
        layers.append(line.encode(y=y, color=colour(series), strokeDash=dash(series), opacity=focused()))
        fields = [alt.Tooltip("t:Q", title="time, s", format=".0f")]
        fields += [alt.Tooltip(f"{s.key}:Q", title=s.label, format=number) for s in drawn]
        pivot = base.transform_pivot("s", value=measure, groupby=["t"])
        layers.append(pivot.mark_rule(opacity=0, strokeWidth=4).encode(tooltip=fields, color=alt.value("var(--ink)")))
    return alt.layer(*layers, title=alt.Title(MEASURES[measure])).properties(width=600, height=PANEL_PX)


def instruments(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a condition and router that has a sound run; none where the pool was simulated."""
    rows = frame(con, scene) if scene.pool.live else pl.DataFrame()
    if rows.is_empty():
        return []
    series, keys = _series(con, rows)
    arms = rows.select("panel", "router").unique().rows()
    if rows.height / len(arms) > MAX_ROWS:
        rows = frame(con, scene, max(10, BINS * MAX_ROWS * len(arms) // rows.height))
    names = {s.key: s.label for s in series} | {POOL: "the pool", GATEWAY: "the gateway"}
    of = [
        keys.get((s, str(number) if card is None else card), s) for s, number, card in rows.select("s", "number", "card").rows()
    ]
    rows = rows.with_columns(pl.Series("s", of), pl.Series("name", [names[key] for key in of]))
    present = [m for m in MEASURES if rows[m].drop_nulls().len() > 0]
    panels = [_panel(rows, scene, series, m, last=m == present[-1]) for m in present]
    happens = [strip(data, scene) for data in events(scene).values()]
    chart = alt.vconcat(*happens, *panels, spacing=14).add_params(focus()).resolve_scale(x="shared")
    absent = [words for m, words in (("cores", "the gateway’s processors and memory"), ("busy", "GPUs")) if m not in present]
    caption = f"Means over {runs(scene)} in bins of {bin_s(scene):g} s, on the clock of the requests. {shaded(scene)}"
    caption += f" Not sampled: {' and '.join(absent)}." if absent else ""
    return [
        Figure(
            key=f"instruments-{condition.key}-{router.key}",
            title="Engines, gateway and GPUs on one clock",
            tab=router.label + (f", {condition.label}" if len(scene.conditions) > 1 else ""),
            caption=caption,
            chart=chart,
            data={
                "rows": _slim(rows.filter(pl.col("panel") == condition.key, pl.col("router") == router.key), router, present),
                **background(scene),
            },
            columns={k: v for k, v in COLUMNS.items() if k not in MEASURES or k in present},
            fit=Fit(columns=1, side_px=64),
            legend=series,
            legend_of="Replicas and cards",
            tabs_of="router" if len(scene.conditions) == 1 else "router, client and guard",
        )
        for condition in scene.conditions
        for router in scene.routers
        if (condition.key, router.key) in arms
    ]


def _slim(rows: pl.DataFrame, router: Router, present: Sequence[str]) -> pl.DataFrame:
    return rows.select(pl.lit(router.label).alias("router"), "s", "name", "t", *present)
