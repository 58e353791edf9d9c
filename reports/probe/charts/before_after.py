"""The same bursts without guards and with the recommended guard set, second by second, a line a run. It does not judge."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, count_scale, focus, focused, named, plain_axis
from reports.probe.charts.chosen_runs import Twins, before_and_after, seconds_of
from reports.probe.scene import GuardSet, ProbeScene, evidence
from reports.probe.trigger_words import words

SMOOTH_S = 3
MOST_PAIRS = 5
MEASURES = {"goodput": "Requests due that met the SLO, per s", "in_flight": "Attempts in flight in the replicas"}
COLUMNS = {"guard": "guard set", "seed": "seed", "t": "second", "goodput": "within the SLO, per s", "in_flight": "in flight"}


def frames(con: duckdb.DuckDBPyConnection, scene: ProbeScene, pairs: list[Twins]) -> dict[str, pl.DataFrame]:
    """`rows`: a row a run and second without the drain, means over `SMOOTH_S` seconds, `s` the guard set's key; `burst`: when."""
    cells = [a for twins in pairs for a in (twins.down, twins.back)]
    who = pl.DataFrame(
        [(a.cell_id, scene.guard(a.ask.guard).key, a.ask.guard, a.ask.seed) for a in cells],
        schema={"cell_id": pl.String, "s": pl.String, "guard": pl.String, "seed": pl.Int64},
        orient="row",
    )
    seen = seconds_of(con, cells).filter(pl.col("phase") != "drain").join(who, on="cell_id", how="left")
    during = seen.filter(pl.col("phase") == "trigger")["t_s"]
    burst = during.to_frame().select(pl.col("t_s").min().alias("start_s"), (pl.col("t_s").max() + 1).alias("end_s"))
    rows = seen.select(
        "s",
        "guard",
        "seed",
        pl.col("t_s").cast(pl.Float64).alias("t"),
        pl.col("succeeded").cast(pl.Float64).rolling_mean(SMOOTH_S, min_samples=1).over("cell_id").alias("goodput"),
        pl.col("in_flight").cast(pl.Float64).rolling_mean(SMOOTH_S, min_samples=1).over("cell_id"),
    ).sort("s", "seed", "t")
    return {"rows": rows, "burst": burst}


def _panel(rows: pl.DataFrame, pair: list[GuardSet], measure: str, end_s: float, first_seed: int) -> Any:
    """One measure: the burst shaded, a line a run, the first seed's thick."""
    x = alt.X(
        "t:Q",
        scale=alt.Scale(domain=[0, end_s], nice=False),
        axis=alt.Axis(title="seconds from the run’s start", grid=False, tickCount=7),
    )
    highest = rows[measure].max()
    scale, axis = count_scale(float(highest) if isinstance(highest, int | float) else 0.0)
    y = alt.Y(f"{measure}:Q", scale=scale if measure == "in_flight" else alt.Scale(zero=True),
              axis=axis if measure == "in_flight" else plain_axis())  # fmt: skip
    burst = named("burst").mark_rect(tooltip=None).encode(x=alt.X("start_s:Q"), x2="end_s:Q", color=alt.value("var(--burst)"))
    thick = alt.condition(f"datum.seed === {first_seed}", alt.value(2.4), alt.value(0.9))
    tooltip = [alt.Tooltip("guard:N", title="guard set"), "seed:O", alt.Tooltip("t:Q", title="second", format=".0f"),
               alt.Tooltip(f"{measure}:Q", title=MEASURES[measure], format=".3~r")]  # fmt: skip
    line = named().mark_line().encode(x=x, y=y, color=colour(pair), detail="seed:N", strokeWidth=thick, tooltip=tooltip)
    line = line.encode(opacity=focused(0.85, 0.1))
    return alt.layer(burst, line, title=MEASURES[measure]).properties(width=400, height=220)


def before_after(con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure with a panel a measure; none where no recommended cure turned a run that stays down into one that comes back."""
    found = before_and_after(scene)
    if found is None:
        return []
    label, pairs = found[0], found[1][:MOST_PAIRS]
    data = frames(con, scene, pairs)
    rows = data["rows"]
    ask = pairs[0].down.ask
    pair = [scene.guards[0], scene.guard(label)]
    end = rows["t"].max()
    end_s = (float(end) if isinstance(end, int | float) else 0.0) + 1
    panels = [_panel(rows, pair, m, end_s, ask.seed) for m in MEASURES]
    chart = alt.concat(*panels, columns=2, spacing=20).add_params(focus()).resolve_scale(x="independent", y="independent")
    cells = evidence(scene, [a.cell_id for t in pairs for a in (t.down, t.back)])
    return [
        Figure(
            key="before-after",
            title=f"{ask.router} before and after its cure",
            caption=f"{ask.router} at {scene.fraction(ask.load_rps):.0%} load and {words(ask.trigger)} (shaded): without guards "
            f"and with “{label}”, the same arrivals in each pair of lines; thick: seed {ask.seed}. Means over {SMOOTH_S} s; a "
            f"line ends when the run’s verdict is decided. Cells {cells}.",
            chart=chart,
            data=data,
            columns=COLUMNS,
            fit=Fit(columns=2, min_px=300, side_px=72),
            by_router=False,
        )
    ]
