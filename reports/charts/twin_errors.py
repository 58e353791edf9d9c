"""How far the simulation is from what was measured: a dot an arm and metric, over the noise of repeats. It does not judge."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import LABELS_PX, colour, focus, focused, labelled, named
from reports.scene import Condition, Scene
from reports.twins import METRICS, compared

ROW_PX = 26
SCHEMA: dict[str, Any] = {
    "s": pl.String, "c": pl.String, "condition": pl.String, "metric": pl.String, "measured": pl.Float64, "simulated": pl.Float64,
    "error": pl.Float64, "noise": pl.Float64,
}  # fmt: skip
COLUMNS = {
    "router": "router",
    "condition": "client and guard",
    "metric": "metric",
    "measured": "measured (s, req/s or share)",
    "simulated": "simulated",
    "error": "error: simulated ÷ measured − 1",
    "noise": "repeats differ by",
}


def frame(con: duckdb.DuckDBPyConnection, scene: Scene) -> pl.DataFrame:
    """One row an arm and metric with an error. Columns: s, router, c and condition, metric, measured, simulated, error, noise."""
    values = [
        (
            r.router,
            r.condition,
            scene.condition(r.condition).label,
            METRICS[r.metric][0],
            r.measured,
            r.simulated,
            r.error,
            r.noise,
        )
        for r in compared(con)
        if r.error is not None
    ]
    return labelled(pl.DataFrame(values, schema=SCHEMA, orient="row"), scene.routers, "router")


def _panel(scene: Scene, condition: Condition, labels: list[str]) -> Any:
    """One condition: a row a metric, a dot a router at its error, a bar as wide as repeats differ, a rule at no error."""
    axis = alt.Axis(title=None, minExtent=LABELS_PX - 30, maxExtent=LABELS_PX - 30, grid=True)
    y = alt.Y("metric:N", scale=alt.Scale(domain=labels), axis=axis)
    base = named().transform_filter(f"datum.c === '{condition.key}'").encode(y=y)
    x = alt.X("error:Q", axis=alt.Axis(title="simulated ÷ measured − 1", format="+.0%", tickCount=6))
    tooltip = [alt.Tooltip("router:N"), alt.Tooltip("metric:N")]
    tooltip += [alt.Tooltip(f"{f}:Q", title=COLUMNS[f].split(" (")[0], format=".4~r") for f in ("measured", "simulated")]
    tooltip += [alt.Tooltip("error:Q", format="+.1%"), alt.Tooltip("noise:Q", title="repeats differ by", format=".1%")]
    zero = named("zero").mark_rule(strokeDash=[2, 3], tooltip=None).encode(x="at:Q")
    noise = (
        base.transform_aggregate(floor="median(noise)", groupby=["metric"])
        .transform_filter("isValid(datum.floor)")
        .transform_calculate(low="-datum.floor")
        .mark_bar(height=14, tooltip=None)
        .encode(x=alt.X("low:Q", title="simulated ÷ measured − 1"), x2="floor:Q", color=alt.value("var(--shade)"))
    )
    dots = base.mark_point(filled=True, size=75, strokeWidth=0)
    apart = alt.YOffset("s:N", scale=alt.Scale(domain=[r.key for r in scene.routers]))
    drawn = dots.encode(x=x, yOffset=apart, color=colour(scene.routers), opacity=focused(0.85, 0.1), tooltip=tooltip)
    return alt.layer(noise, zero, drawn, title=condition.label).properties(width=400, height=ROW_PX * len(labels))


def twin_errors(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure with a panel a condition; none where nothing that was measured was simulated too."""
    rows = frame(con, scene) if scene.pool.live else pl.DataFrame()
    if rows.is_empty():
        return []
    seen, present = set(rows["metric"]), set(rows["c"])
    labels = [label for label, _ in METRICS.values() if label in seen]
    panels = [_panel(scene, c, labels) for c in scene.conditions if c.key in present]
    repeats = " Grey bars: how much repeats of one measured run differ." if rows["noise"].drop_nulls().len() else ""
    return [
        Figure(
            key="twin-errors",
            title="Simulated beside measured",
            caption="A dot a router: the simulation’s error on the same requests; right of the rule it is too high. Metrics that "
            f"fell on failures on either side have no dot.{repeats}",
            chart=alt.concat(*panels, columns=2, spacing=18).add_params(focus()).resolve_scale(y="independent"),
            data={"rows": rows, "zero": pl.DataFrame({"at": [0.0]})},
            columns=COLUMNS,
            fit=Fit(columns=2, min_px=380, side_px=150),
        )
    ]
