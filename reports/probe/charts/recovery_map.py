"""Heat maps: how likely each router comes back, by load and size of the burst, the runs themselves drawn on top."""

from itertools import pairwise
from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import named
from reports.probe.charts.lanes import AXIS_PX, TICKS
from reports.probe.findings import FrontierPoint
from reports.probe.scene import GuardSet, ProbeScene
from reports.scene import Router

BACK, DOWN = "var(--c1)", "var(--c0)"
SPREAD = 0.34  # half a column, over which the runs of one size are set apart
COLUMNS = {
    "router": "router",
    "load": "load",
    "k": "size k",
    "p": "probability to come back",
    "low": "90% low",
    "high": "90% high",
}
RUNS = {"s": pl.String, "load": pl.String, "place": pl.Float64, "k": pl.Float64, "end": pl.String}
CELLS = {"s": pl.String, "router": pl.String, "load": pl.String, "place": pl.Float64, "k": pl.Float64, "k_low": pl.Float64,
         "k_high": pl.Float64, "p": pl.Float64, "low": pl.Float64, "high": pl.Float64, "sure": pl.Float64,
         "side": pl.String}  # fmt: skip
CAPTION = (
    "Blue: comes back; red: stays down; the paler, the closer to even odds (posterior mean of the recovery probability). "
    "Dots: the runs behind it, filled where one came back and open where it stayed down. Grey columns: the arm does not carry "
    "that load without a burst."
)


def cells(points: list[tuple[Router, FrontierPoint]], loads: tuple[float, ...]) -> pl.DataFrame:
    """A row a router, load and size: the rectangle from `k_low` to `k_high` and the probability with its interval."""
    rows = []
    for router, p in points:
        sizes = [r[0] for r in p.recovery] if p.stable else []
        edges = [(a * b) ** 0.5 for a, b in pairwise(sizes)]
        for (k, low, mean, high), start, end in (
            zip(p.recovery, [*sizes[:1], *edges], [*edges, *sizes[-1:]], strict=True) if sizes else ()
        ):
            side = "back" if mean >= 0.5 else "down"
            sure = abs(2 * mean - 1)
            rows.append((router.key, router.label, f"{p.fraction:.0%}", float(loads.index(p.fraction)), k, start, end, mean, low,
                         high, sure, side))  # fmt: skip
    return pl.DataFrame(rows, schema=CELLS, orient="row")


def runs(points: list[tuple[Router, FrontierPoint]], loads: tuple[float, ...]) -> pl.DataFrame:
    """Data `runs`: a row a run, those of one arm, load and size side by side."""
    rows = []
    for router, p in points:
        seen: dict[float, int] = {}
        for k, recovered in p.tries if p.stable else ():
            n = seen.get(k, 0)
            seen[k] = n + 1
            aside = (n + 1) // 2 * (-1) ** n * min(0.09, SPREAD / 4)
            place = loads.index(p.fraction) + max(-SPREAD, min(SPREAD, aside))
            rows.append((router.key, f"{p.fraction:.0%}", place, k, "back" if recovered else "down"))
    return pl.DataFrame(rows, schema=RUNS, orient="row")


def blanks(points: list[tuple[Router, FrontierPoint]], loads: tuple[float, ...], sizes: tuple[float, float]) -> pl.DataFrame:
    """Data `blanks`: the columns of loads that an arm does not carry."""
    rows = [(r.key, float(loads.index(p.fraction)), *sizes, "unstable") for r, p in points if not p.stable]
    schema = {"s": pl.String, "place": pl.Float64, "k_low": pl.Float64, "k_high": pl.Float64, "word": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _panel(scene: ProbeScene, router: Router) -> Any:
    """One router: rectangles, grey columns, dots."""
    least, most = scene.sizes
    loads = scene.fractions
    scale = alt.Scale(type="log", domain=[least, most], nice=False)
    ticks = [t for t in TICKS if least <= t <= most]
    y_axis = alt.Axis(title=None, values=ticks, labelExpr="format(datum.value, '~r') + '×'", grid=False, tickCount=2 * len(ticks),
                      minExtent=AXIS_PX - 16, maxExtent=AXIS_PX - 16)  # fmt: skip
    said = "".join(f"abs(datum.value - {i}) < 0.01 ? '{f:.0%}' : " for i, f in enumerate(loads))
    x_axis = alt.Axis(title=None, values=list(range(len(loads))), labelExpr=f"{said}''", grid=False)
    x_scale = alt.Scale(domain=[-0.5, len(loads) - 0.5], nice=False)
    sides = alt.Scale(domain=["back", "down"], range=[BACK, DOWN])

    def base(name: str) -> Any:
        return named(name).transform_filter(f"datum.s === '{router.key}'")

    def column(source: Any) -> Any:
        """A rectangle as wide as its load's column."""
        wide = source.transform_calculate(left="datum.place - 0.47", right="datum.place + 0.47")
        y = alt.Y("k_low:Q", scale=scale, axis=y_axis)
        return wide.encode(x=alt.X("left:Q", scale=x_scale, axis=x_axis), x2="right:Q", y=y, y2="k_high:Q")

    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("load:N"),
        alt.Tooltip("k:Q", title="size, ×", format=".3~r"),
        alt.Tooltip("p:Q", title="comes back with probability", format=".2f"),
        alt.Tooltip("low:Q", title="90% low", format=".2f"),
        alt.Tooltip("high:Q", title="90% high", format=".2f"),
    ]
    heat = column(base("rows").mark_rect(strokeWidth=0)).encode(
        fill=alt.Fill("side:N", legend=None, scale=sides),
        opacity=alt.Opacity("sure:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.03, 0.8])),
        tooltip=tooltip,
    )
    blank = column(base("blanks").mark_rect(tooltip=None)).encode(fill=alt.value("var(--shade)"))
    middle = alt.Y("at:Q", scale=scale)
    word = base("blanks").transform_calculate(at=f"{(least * most) ** 0.5}").mark_text(angle=270, tooltip=None)
    word = word.encode(x=alt.X("place:Q", scale=x_scale), y=middle, text="word:N", color=alt.value("var(--soft)"))
    filled = alt.condition("datum.end === 'back'", alt.value("var(--ink)"), alt.value("var(--page)"))
    dots = (
        base("runs")
        .mark_point(size=17, strokeWidth=1, tooltip=None)
        .encode(x=alt.X("place:Q", scale=x_scale), y=alt.Y("k:Q", scale=scale), fill=filled, stroke=alt.value("var(--ink)"))
    )
    return alt.layer(blank, heat, word, dots, title=router.label).properties(width=400, height=190)


def recovery_map(_con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure a guard set (and length) with a panel a router, all of one chart; none where the frontier was not asked for."""
    present = [r for r in scene.routers if any(p.arm[0] == r.label for p in scene.findings.frontier)]
    if not present:
        return []
    chart = alt.concat(*(_panel(scene, r) for r in present), columns=3, spacing=20)
    chart = chart.add_params(alt.param(name="focus", value="")).resolve_scale(x="independent", y="independent")
    return [
        _figure(scene, guard, length_s, chart)
        for length_s in scene.lengths_s
        for guard in scene.mapped
        if any(p.arm[1] == guard.label and p.length_s == length_s for p in scene.findings.frontier)
    ]


def _figure(scene: ProbeScene, guard: GuardSet, length_s: float, chart: Any) -> Figure:
    points = [(scene.router(p.arm[0]), p) for p in scene.findings.frontier if p.arm[1] == guard.label and p.length_s == length_s]
    loads = scene.fractions
    return Figure(
        key=f"recovery-{guard.key}-{length_s:g}s",
        title=f"Recovery probability with “{guard.label}”, bursts of {length_s:g} s",
        tab=f"{guard.label}, {length_s:g} s" if len(scene.lengths_s) > 1 else guard.label,
        caption=CAPTION,
        chart=chart,
        data={"rows": cells(points, loads), "runs": runs(points, loads), "blanks": blanks(points, loads, scene.sizes)},
        columns=COLUMNS,
        fit=Fit(columns=3, min_px=300, side_px=72),
    )
