"""Cumulative distributions of TTFT and E2E with the SLO's limits; failures make a curve stop below 100%."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import MAX_ROWS, Figure, Fit
from reports.charts.panels import SPANS, colour, dash, focus, focused, labelled, named, plain_axis
from reports.scene import Scene

POINTS = 60
TICKS_S = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
CAPTION = (
    "Share of all requests answered within a time (logarithmic axis), seeds pooled. Requests that were never answered "
    "count as never: a curve ends below 100% by their share. Times count from the first attempt, retries included."
)
MEASURES = {"ttft": "Time to first token (TTFT)", "e2e": "Time to the whole answer (E2E)"}
TIME_LABEL = "datum.value < 1 ? format(datum.value * 1000, '~r') + ' ms' : format(datum.value, '~r') + ' s'"


def points(routers: int) -> int:
    """Points of a curve: `POINTS`, or fewer where so many routers would not fit a chart."""
    return min(POINTS, MAX_ROWS // (len(MEASURES) * len(SPANS) * max(1, routers)))


def frame(con: duckdb.DuckDBPyConnection, most: int = POINTS) -> pl.DataFrame:
    """Share of requests answered within `seconds`, at up to `most` log-spaced points between a curve's fastest and slowest
    answer, seeds pooled. Columns: panel (condition), s, span, measure, seconds, share."""
    found: pl.DataFrame = con.sql(f"""
        WITH asked AS (
            SELECT p.condition AS panel, p.router AS s, if(q.phase = 'steady', 'steady', 'after') AS span, m.measure,
                   CASE WHEN q.outcome = 'ok' THEN if(m.measure = 'ttft', q.ttft_s, q.e2e_s) END AS answer_s
            FROM requests q JOIN sound p USING (cell_id), (VALUES ('ttft'), ('e2e')) AS m(measure)
            WHERE q.phase IN ('steady', 'trigger', 'recovery')),
        ends AS (
            SELECT panel, s, span, measure, count(*) AS n, greatest(min(answer_s), 1e-4) AS low, max(answer_s) AS high
            FROM asked GROUP BY ALL HAVING count(answer_s) > 0),
        placed AS (
            SELECT a.panel, a.s, a.span, a.measure, e.n, e.low, e.high,
                   if(e.high > e.low, greatest(ln(a.answer_s / e.low) / ln(e.high / e.low), 0) * {most - 1}, 0) AS place
            FROM asked a JOIN ends e USING (panel, s, span, measure) WHERE a.answer_s IS NOT NULL),
        stepped AS (SELECT * EXCLUDE (place), ceil(place - 1e-9) AS step, count(*) AS answers FROM placed GROUP BY ALL)
        SELECT panel, s, span, measure, (low * pow(high / low, step / {most - 1}.0))::DOUBLE AS seconds,
               (sum(answers) OVER (PARTITION BY panel, s, span, measure ORDER BY step) / n)::DOUBLE AS share
        FROM stepped ORDER BY panel, s, span, measure, seconds""").pl()
    return found


def _panel(scene: Scene, measure: str, span: str) -> Any:
    """A curve a router, the SLO's limit as a dashed rule; the x axis is logarithmic, from ms to minutes."""
    axis = alt.Axis(title=None, values=TICKS_S, labelExpr=TIME_LABEL, labelOverlap="greedy", labelSeparation=6)
    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("seconds:Q", title="answered within, s", format=".3~r"),
        alt.Tooltip("share:Q", title="share of all requests", format=".1%"),
    ]
    line = (
        named()
        .transform_filter(f"datum.measure === '{measure}' && datum.span === '{span}'")
        .mark_line()
        .encode(
            x=alt.X("seconds:Q", scale=alt.Scale(type="log", nice=False), axis=axis),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=plain_axis(".0%")),
            color=colour(scene.routers),
            strokeDash=dash(scene.routers),
            opacity=focused(),
            tooltip=tooltip,
        )
    )
    title = f"{MEASURES[measure]}, {SPANS[span]}"
    return alt.layer(line, *_limit(scene, measure), title=title).properties(width=400, height=190)


def _limit(scene: Scene, measure: str) -> list[Any]:
    if scene.slo.get(f"{measure}_s") is None:
        return []
    base = named("limits").transform_filter(f"datum.measure === '{measure}'").encode(x=alt.X("limit_s:Q"))
    rule = base.mark_rule(strokeDash=[2, 3], strokeWidth=1.5, tooltip=None).encode(color=alt.value("var(--ink)"))
    text = base.mark_text(align="right", baseline="bottom", dx=-4, dy=-3, fontWeight="bold", tooltip=None)
    return [rule, text.encode(y=alt.value(190), text=alt.value("SLO"))]


def limits(scene: Scene) -> pl.DataFrame:
    """Data `limits`: the SLO's limit of each measure that has one."""
    found = [(m, limit) for m in MEASURES if (limit := scene.slo.get(f"{m}_s")) is not None]
    return pl.DataFrame(found, schema={"measure": pl.String, "limit_s": pl.Float64}, orient="row")


def answer_times(con: duckdb.DuckDBPyConnection, scene: Scene) -> list[Figure]:
    """One figure a condition, up to four panels; at most 4 × `POINTS` rows a router."""
    everything = labelled(frame(con, points(len(scene.routers))), scene.routers, "router")
    kinds = [
        (m, s) for s in SPANS for m in MEASURES if not everything.filter(pl.col("measure") == m, pl.col("span") == s).is_empty()
    ]
    if not kinds:
        return []
    panels = [_panel(scene, m, s) for m, s in kinds]
    chart = alt.concat(*panels, columns=2, spacing=18).add_params(focus()).resolve_scale(x="independent", y="independent")
    return [
        Figure(
            key=f"answer-times-{condition.key}",
            title="How long answers take",
            tab=condition.label,
            caption=CAPTION,
            chart=chart,
            data={"rows": everything.filter(pl.col("panel") == condition.key).drop("panel"), "limits": limits(scene)},
            columns={"router": "router", "span": "when", "measure": "time", "seconds": "within, s", "share": "share of requests"},
            fit=Fit(columns=2, min_px=340, side_px=72),
        )
        for condition in scene.conditions
    ]
