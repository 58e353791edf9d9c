"""How long it takes to come back: Kaplan–Meier curves after the same triggers, a panel a guard set, a line a router."""

from collections.abc import Sequence
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import colour, dash, focus, focused, named, plain_axis
from reports.probe.findings import PulseRow
from reports.probe.scene import GuardSet, ProbeScene
from reports.sentences import counted
from reports.survival import Step, survival

SCHEMA = {"s": pl.String, "router": pl.String, "g": pl.String, "guard": pl.String, "t": pl.Float64, "share": pl.Float64,
          "low": pl.Float64, "high": pl.Float64, "at_risk": pl.Int64, "lost": pl.Int64}  # fmt: skip
COLUMNS = {"router": "router", "guard": "guard set", "t": "seconds after the trigger", "share": "share still down",
           "low": "95% low", "high": "95% high", "at_risk": "runs still watched", "lost": "last seen then"}  # fmt: skip
CAPTION = (
    "Share of runs that are still down, by time after the trigger (Kaplan–Meier; band: 95%, pointwise), at {load:.0%} load: "
    "{runs} an arm, the same triggers and seeds for all ({kinds}). Small ticks: a run was last seen then, still down; it counts "
    "as longer, not as missing."
)


def pooled(pulses: Sequence[PulseRow]) -> list[tuple[float, bool]]:
    return [time for pulse in pulses for time in pulse.times]


def drawn(steps: Sequence[Step], end_s: float) -> list[Step]:
    """The steps, and the last one again at the end of the axis."""
    last = steps[-1]
    return [*steps, Step(end_s, last.share, last.low, last.high, last.at_risk - last.back - last.lost, 0, 0)]


def frame(scene: ProbeScene, fraction: float, end_s: float) -> pl.DataFrame:
    """A row an arm and step of its curve, drawn to `end_s`; all of an arm's triggers at that load are pooled."""
    pulses = [p for p in scene.findings.pulses if p.fraction == fraction]
    rows = []
    for router in scene.routers:
        for guard in scene.guards:
            steps = survival(pooled([p for p in pulses if p.arm == (router.label, guard.label)]))
            for s in drawn(steps, end_s) if steps else ():
                at = (router.key, router.label, guard.key, guard.label, s.at_s, s.share, s.low, s.high, s.at_risk, s.lost)
                rows.append(at)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def _panel(scene: ProbeScene, guard: GuardSet, end_s: float) -> Any:
    """One guard set: a band, a step line and ticks for each router."""
    rows = named().transform_filter(f"datum.g === '{guard.key}'")
    x_scale = alt.Scale(domain=[0, max(1.0, end_s)], nice=False)
    x = alt.X("t:Q", scale=x_scale, axis=alt.Axis(title="seconds after the trigger", tickCount=6))
    y = alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), axis=plain_axis(".0%"))
    base = rows.encode(x=x, color=colour(scene.routers))
    faint = (
        alt.when("focus === ''").then(alt.value(0.05)).when("focus === datum.s").then(alt.value(0.2)).otherwise(alt.value(0.0))
    )
    seen = base.transform_filter("isValid(datum.low)")
    band = seen.mark_area(interpolate="step-after", tooltip=None).encode(y=alt.Y("low:Q"), y2="high:Q", opacity=faint)
    line = base.mark_line(interpolate="step-after", tooltip=None)
    line = line.encode(y=y, strokeDash=dash(scene.routers), opacity=focused())
    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("t:Q", title="seconds after the trigger", format=".0f"),
        alt.Tooltip("share:Q", title="still down", format=".0%"),
        alt.Tooltip("low:Q", title="95% low", format=".0%"),
        alt.Tooltip("high:Q", title="95% high", format=".0%"),
        alt.Tooltip("at_risk:Q", title="runs still watched"),
    ]
    ticks = base.transform_filter("datum.lost > 0").mark_tick(thickness=1.5, size=9, orient="vertical")
    ticks = ticks.encode(y=y, opacity=focused(), tooltip=tooltip)
    hover = base.mark_point(size=60, opacity=0).encode(y=y, tooltip=tooltip)
    return alt.layer(band, line, ticks, hover, title=guard.label).properties(width=400, height=210)


def comeback_times(_con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure a load, that with most runs first; none where no trigger was tried."""
    by_load: dict[float, int] = {}
    for p in scene.findings.pulses:
        by_load[p.fraction] = by_load.get(p.fraction, 0) + len(p.times)
    loads = [f for f in sorted(by_load, key=lambda f: (-by_load[f], f)) if by_load[f]]
    if not loads:
        return []
    end_s = max(t for t, _ in pooled(scene.findings.pulses))
    panels = [_panel(scene, g, end_s) for g in scene.guards if any(p.arm[1] == g.label for p in scene.findings.pulses)]
    chart = alt.concat(*panels, columns=3, spacing=20).add_params(focus()).resolve_scale(x="independent", y="independent")
    return [_figure(scene, f, chart, end_s) for f in loads]


def _figure(scene: ProbeScene, fraction: float, chart: Any, end_s: float) -> Figure:
    rows = frame(scene, fraction, end_s)
    pulses = [p for p in scene.findings.pulses if p.fraction == fraction]
    counts = [len(pooled([p for p in pulses if p.arm == arm])) for arm in {p.arm for p in pulses}]
    runs = counted(max(counts), "run") if min(counts) == max(counts) else f"{min(counts)}–{max(counts)} runs"
    kinds = counted(len({p.trigger for p in pulses}), "trigger")
    return Figure(
        key=f"comeback-times-{100 * fraction:.0f}",
        title=f"Time to come back at {fraction:.0%} load",
        tab=f"{fraction:.0%} load, {kinds}",
        caption=CAPTION.format(load=fraction, runs=runs, kinds=kinds),
        chart=chart,
        data={"rows": rows},
        columns=COLUMNS,
        fit=Fit(columns=3, min_px=300, side_px=72),
    )
