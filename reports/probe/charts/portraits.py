"""Phase portraits: work in flight against goodput, of a run that stays down and of one that comes back. It does not judge."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import named
from reports.probe.charts.chosen_runs import Twins, deadly_and_safe, seconds_of
from reports.probe.scene import ProbeScene, evidence, size
from reports.probe.trigger_words import length_s, spike_size

SMOOTH_S = 5
TICKS = [digit * 10**power for power in range(5) for digit in (1, 2, 5)]
STAGES = {"before": "var(--soft)", "trigger": "var(--warn)", "after": "var(--accent)"}
STAGE_OF = {"warmup": "before", "steady": "before", "trigger": "trigger", "recovery": "after"}
COLUMNS = {"p": "run", "t": "second", "stage": "when", "in_flight": "in flight", "goodput": "within the SLO, per s"}


def frame(con: duckdb.DuckDBPyConnection, twins: Twins) -> pl.DataFrame:
    """A row a run (`p`: down or back) and second from the steady phase to the drain, both axes as means over `SMOOTH_S` s."""
    labels = {twins.down.cell_id: "down", twins.back.cell_id: "back"}
    rows = seconds_of(con, [twins.down, twins.back]).filter(pl.col("phase").is_in(["steady", "trigger", "recovery"]))
    return rows.select(
        pl.col("cell_id").replace_strict(labels, return_dtype=pl.String).alias("p"),
        pl.col("t_s").cast(pl.Float64).alias("t"),
        pl.col("phase").replace_strict(STAGE_OF, return_dtype=pl.String).alias("stage"),
        pl.col("in_flight").cast(pl.Float64).rolling_mean(SMOOTH_S, min_samples=1).over("cell_id"),
        pl.col("succeeded").cast(pl.Float64).rolling_mean(SMOOTH_S, min_samples=1).over("cell_id").alias("goodput"),
    ).sort("p", "t")


def _panel(rows: pl.DataFrame, which: str, title: str) -> Any:
    """One run: its way through the plane, coloured by stage; a ring where it begins, a square where it ends. Both runs' planes
    have the same limits."""
    flight = [max(1.0, v) for v in rows["in_flight"].drop_nulls().to_list()] or [1.0]
    served = max(rows["goodput"].drop_nulls().to_list(), default=1.0)
    decades = max(flight) > 10 * min(flight)
    ends = [0.9 * min(flight), 1.1 * max(flight)] if decades else [0.0, 1.05 * max(flight)]
    scale = alt.Scale(type="log" if decades else "linear", domain=ends, nice=False, clamp=True)
    label = "datum.value < 1000 ? datum.value : format(datum.value / 1000, '~r') + 'k'"
    ticks = {"values": [t for t in TICKS if ends[0] <= t <= ends[1]]} if decades else {"tickCount": 6}
    x = alt.X("in_flight:Q", scale=scale, axis=alt.Axis(title="attempts in flight in the replicas", labelExpr=label,
                                                        labelOverlap="greedy", **ticks))  # fmt: skip
    y = alt.Y("goodput:Q", scale=alt.Scale(domain=[0, 1.05 * max(1.0, served)], nice=False),
              axis=alt.Axis(title="requests due that met the SLO, per s"))  # fmt: skip
    stages = alt.Color("stage:N", legend=None, scale=alt.Scale(domain=list(STAGES), range=list(STAGES.values())))
    base = named().transform_filter(f"datum.p === '{which}'").encode(x=x, y=y)
    way = base.mark_trail(tooltip=None, opacity=0.35).encode(order="t:Q", size=alt.value(1.4), color=alt.value("var(--soft)"))
    tooltip = [alt.Tooltip("t:Q", title="second", format=".0f"), alt.Tooltip("stage:N", title="when"),
               alt.Tooltip("in_flight:Q", title="in flight", format=".0f"),
               alt.Tooltip("goodput:Q", title="within the SLO, per s", format=".3~r")]  # fmt: skip
    dots = base.mark_point(filled=True, size=16, strokeWidth=0, opacity=0.8).encode(color=stages, tooltip=tooltip)
    ends = named("ends").transform_filter(f"datum.p === '{which}'").encode(x=x, y=y)
    shape = alt.Shape("end:N", legend=None, scale=alt.Scale(domain=["begins", "ends"], range=["circle", "square"]))
    marks = ends.mark_point(size=110, strokeWidth=2, tooltip=None).encode(shape=shape, color=alt.value("var(--ink)"))
    return alt.layer(way, dots, marks, title=title).properties(width=400, height=240)


def _ends(rows: pl.DataFrame) -> pl.DataFrame:
    """Data `ends`: where each run begins and ends."""
    seen = rows.drop_nulls(["in_flight", "goodput"])
    first = seen.group_by("p", maintain_order=True).first().with_columns(end=pl.lit("begins"))
    return pl.concat([first, seen.group_by("p", maintain_order=True).last().with_columns(end=pl.lit("ends"))])


def portraits(con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure with two panels; none where no arm has both a deadly and a safe burst at one load."""
    twins = deadly_and_safe(scene)
    if twins is None:
        return []
    rows = frame(con, twins)
    down, back = twins.down, twins.back
    who = down.ask.router if down.ask.guard == scene.guards[0].label else f"{down.ask.router} with “{down.ask.guard}”"
    load, length = scene.fraction(down.ask.load_rps), length_s(down.ask.trigger)
    panels = [
        _panel(rows, "down", f"{size(spike_size(down.ask.trigger) or 0)} for {length:g} s: stays down"),
        _panel(rows, "back", f"{size(spike_size(back.ask.trigger) or 0)} for {length:g} s: comes back"),
    ]
    chart = alt.concat(*panels, columns=2, spacing=20).add_params(alt.param(name="focus", value=""))
    seeds = "the same seed" if down.ask.seed == back.ask.seed else "two seeds"
    named_cells = evidence(scene, [down.cell_id, back.cell_id])
    return [
        Figure(
            key="portraits",
            title="Two fates of one pool",
            caption=f"{who} at {load:.0%} load, {seeds}, a dot a second ({SMOOTH_S} s means): grey before the burst, amber "
            "during it, blue after it, when the load is the same again. Ring: begins; square: ends (a run stops once its verdict "
            f"is decided). Many in flight with nothing served is the stuck state. Cells {named_cells}.",
            chart=chart.resolve_scale(x="independent", y="independent", color="shared"),
            data={"rows": rows, "ends": _ends(rows)},
            columns=COLUMNS,
            fit=Fit(columns=2, min_px=300, side_px=72),
        )
    ]
