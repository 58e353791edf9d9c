"""Advertised against hidden capacity: what each arm carries, warm and cold, and from which load its stuck state heals."""

from typing import Any

import altair as alt
import duckdb
import polars as pl

from reports.charts.figure import Figure, Fit
from reports.charts.panels import LABELS_PX, colour, focus, focused, named
from reports.probe.scene import GuardSet, ProbeScene

ROW_PX = 26
KINDS = {"warm": "carries, warm", "cold": "carries, cold", "heals": "heals when shed to", "stays": "still stuck when shed to"}
SHAPES = {"warm": "circle", "cold": "square", "heals": "triangle-up", "stays": "cross"}
SCHEMA = {"s": pl.String, "router": pl.String, "g": pl.String, "guard": pl.String, "kind": pl.String, "what": pl.String,
          "rps": pl.Float64, "low": pl.Float64, "high": pl.Float64}  # fmt: skip
COLUMNS = {"router": "router", "guard": "guard set", "what": "what", "rps": "req/s", "low": "bracket low", "high": "bracket high"}
CAPTION = (
    "Filled dot: the largest load that the arm carries warm (advertised capacity, its bracket as a bar); open square: the same "
    "when the load comes at once to an empty pool. Triangle: the largest load from which the stuck state healed by itself once "
    "the load was shed to it (hidden capacity); cross: the smallest load at which it stayed stuck. The wider the gap, the more "
    "load must be turned away to come back. Dashed: C_ref."
)


def frame(scene: ProbeScene) -> pl.DataFrame:
    """A row an arm and kind of load. Columns as in `SCHEMA`; low and high bracket the warm capacity."""
    rows = []
    for c in scene.findings.capacities:
        router, guard = scene.router(c.arm[0]), scene.guard(c.arm[1])
        head = (router.key, router.label, guard.key, guard.label)
        if c.warm_rps is not None:
            rows.append((*head, "warm", KINDS["warm"], c.warm_rps, c.warm_low_rps, c.warm_high_rps))
        if c.cold_rps is not None:
            rows.append((*head, "cold", KINDS["cold"], c.cold_rps, None, None))
    for e in scene.findings.escapes:
        router, guard = scene.router(e.arm[0]), scene.guard(e.arm[1])
        for kind, rps in (("heals", e.heals_at_rps), ("stays", e.stays_at_rps)):
            if rps is not None:
                rows.append((router.key, router.label, guard.key, guard.label, kind, KINDS[kind], rps, None, None))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("g", "s")


def _panel(scene: ProbeScene, guard: GuardSet, most_rps: float) -> Any:
    """One guard set: a row a router, a mark a kind of load."""
    axis = alt.Axis(title=None, minExtent=LABELS_PX, maxExtent=LABELS_PX, grid=True, labelLimit=LABELS_PX - 8)
    y = alt.Y("router:N", scale=alt.Scale(domain=[r.label for r in scene.routers]), axis=axis)
    x_scale = alt.Scale(domain=[0, most_rps * 1.08], nice=False)
    rows = named().transform_filter(f"datum.g === '{guard.key}'").encode(y=y, color=colour(scene.routers), opacity=focused())
    x = alt.X("rps:Q", scale=x_scale, axis=alt.Axis(title="req/s", tickCount=5))
    shape = alt.Shape("kind:N", legend=None, scale=alt.Scale(domain=list(SHAPES), range=list(SHAPES.values())))
    fills = alt.Scale(domain=[r.key for r in scene.routers], range=[r.colour for r in scene.routers])
    full = alt.condition("datum.kind === 'warm'", alt.Fill("s:N", legend=None, scale=fills), alt.value("var(--page)"))
    tooltip = [
        alt.Tooltip("router:N"),
        alt.Tooltip("what:N"),
        alt.Tooltip("rps:Q", title="req/s", format=".3~r"),
        alt.Tooltip("low:Q", title="bracket low", format=".3~r"),
        alt.Tooltip("high:Q", title="bracket high", format=".3~r"),
    ]
    reach = rows.mark_rule(tooltip=None, strokeWidth=2, yOffset=-5).encode(x=alt.X("low:Q", scale=x_scale), x2="high:Q")

    def marks(which: str, aside_px: int) -> Any:
        """The marks of some kinds, moved a little up or down, for warm and cold are often the same load."""
        found = rows.transform_filter(which).mark_point(size=55, strokeWidth=1.6, yOffset=aside_px)
        return found.encode(x=x, shape=shape, fill=full, tooltip=tooltip)

    reference = named("reference").mark_rule(strokeDash=[2, 3], tooltip=None).encode(x=alt.X("c_ref:Q", scale=x_scale))
    layers = [reference, reach, marks("datum.kind !== 'cold'", -5), marks("datum.kind === 'cold'", 5)]
    return alt.layer(*layers, title=guard.label).properties(width=300, height=ROW_PX * len(scene.routers))


def capacities(_con: duckdb.DuckDBPyConnection, scene: ProbeScene) -> list[Figure]:
    """One figure with a panel a guard set; none where neither capacity nor escape was asked for."""
    rows = frame(scene)
    if rows.is_empty():
        return []
    c_ref = scene.findings.c_ref_rps
    most = max(c_ref, *(v for name in ("rps", "high") for v in rows[name].drop_nulls().to_list()))
    panels = [_panel(scene, g, most) for g in scene.guards if g.key in set(rows["g"])]
    chart = alt.concat(*panels, columns=3, spacing=20).add_params(focus()).resolve_scale(x="independent", y="independent")
    return [
        Figure(
            key="capacities",
            title="Advertised and hidden capacity",
            caption=CAPTION,
            chart=chart,
            data={"rows": rows, "reference": pl.DataFrame({"c_ref": [c_ref]})},
            columns=COLUMNS,
            fit=Fit(columns=3, min_px=340, side_px=190),
        )
    ]
