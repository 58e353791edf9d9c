"""Every chart of the probe's page renders, shows what the tables say, and leaves out what it cannot show."""

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
import vl_convert

from reports.charts.figure import Figure
from reports.probe.charts import CHARTS
from reports.probe.charts.chosen_runs import before_and_after, deadly_and_safe
from reports.probe.charts.frontier import place
from reports.probe.charts.lanes import Lanes
from reports.probe.findings import FalseAlarms, Findings
from reports.probe.page_tables import frontier_table
from reports.probe.trigger_words import spike_size
from reports.theme import vega_config
from tests.reports.probe.conftest import Probed
from tests.reports.probe.test_tables import POINT


def svg_of(figure: Figure) -> str:
    spec: dict[str, Any] = figure.to_vega_lite() | {"config": vega_config()}
    return str(vl_convert.vegalite_to_svg(spec))


@pytest.mark.parametrize("name", list(CHARTS))
def test_every_chart_renders(probed_scene: Probed, name: str) -> None:
    figures = CHARTS[name](*probed_scene)
    assert figures
    for figure in figures:
        svg = svg_of(figure)
        groups = re.findall(
            r'class="mark-(?:line|symbol|area|rule|rect)[^"]*role-mark[^"]*"[^>]*>(.*?)</g>', svg, flags=re.DOTALL
        )
        assert sum(len(re.findall(r'<path[^>]* d="M[^"]|<line', group)) for group in groups) > 0, figure.key
        assert "NaN" not in svg, figure.key
        assert "undefined" not in svg, figure.key


@pytest.mark.parametrize("name", list(CHARTS))
def test_nothing_found_draws_nothing(probed_scene: Probed, name: str) -> None:
    con, scene = probed_scene
    nothing = Findings(scene.findings.c_ref_rps, FalseAlarms(0, 0, 0.0, 1.0))
    calm = tuple(a for a in scene.cells if a.ask.phase == "placebo")
    assert CHARTS[name](con, replace(scene, findings=nothing, cells=calm)) == []


def test_the_map_has_a_row_an_arm_and_load(probed_scene: Probed) -> None:
    con, scene = probed_scene
    rows = CHARTS["frontier"](con, scene)[0].data["rows"]
    assert rows.height == len(scene.findings.frontier)
    known = {(p.arm, f"{p.fraction:.0%}"): p for p in scene.findings.frontier}
    for row in rows.iter_rows(named=True):
        point = known[(row["router"], row["guard"]), row["load"]]
        assert row["lane"] == ("unstable" if not point.stable else "survived" if point.k is not None else row["lane"])
        assert (row["low"], row["high"], row["runs"]) == (point.low, point.high, len(point.tries))


def test_every_length_of_a_burst_has_a_map_of_its_own(probed_scene: Probed) -> None:
    con, scene = probed_scene
    longer = tuple(replace(p, length_s=40.0) for p in scene.findings.frontier)
    both = replace(scene, findings=replace(scene.findings, frontier=scene.findings.frontier + longer))
    assert [f.tab for f in CHARTS["frontier"](con, both)] == ["20 s", "40 s"]
    tabs = ["none, 20 s", "retry budget, 20 s", "none, 40 s", "retry budget, 40 s"]
    assert [f.tab for f in CHARTS["recovery_map"](con, both)] == tabs
    table = frontier_table(both)
    assert table
    assert [g.label for g in table.groups] == ["", "bursts of 20 s", "bursts of 40 s"]
    assert {len(row.cells) for row in table.rows} == {2 + 4}


LANES = Lanes(1.25, 8.0)


@pytest.mark.parametrize(
    ("changes", "lane", "y"),
    [
        ({"k": 3.0, "low": 2.0, "high": 4.0}, "survived", 3.0),
        ({"k": None, "low": 6.0, "high": None}, "above", LANES.above),
        ({"k": None, "low": None, "high": 1.5}, "below", LANES.below),
        ({"k": None, "low": None, "high": None, "tries": ((8.0, True), (8.0, True))}, "above", LANES.above),
        ({"k": None, "low": None, "high": None, "tries": ((1.25, False), (2.0, False))}, "below", LANES.below),
        ({"stable": False, "k": 3.0}, "unstable", LANES.unstable),
    ],
)
def test_sizes_beyond_what_was_tried_stand_in_lanes_of_their_own(changes: dict[str, Any], lane: str, y: float) -> None:
    assert place(replace(POINT, **changes), LANES)[:2] == (lane, y)
    assert LANES.unstable < LANES.below < 1.25 < 8.0 < LANES.above


def test_a_router_has_the_same_colour_in_every_chart(probed_scene: Probed) -> None:
    con, scene = probed_scene
    colours = {r.key: r.colour for r in scene.routers}
    seen = 0
    for draw in CHARTS.values():
        for figure in draw(con, scene):
            for scale in _scales(figure.chart.to_dict() if figure.by_router else {}):
                if set(scale["domain"]) <= set(colours):
                    seen += 1
                    assert dict(zip(scale["domain"], scale["range"], strict=True)) == colours
    assert seen > 5


def _scales(spec: Any) -> list[dict[str, Any]]:
    if isinstance(spec, list):
        return [s for part in spec for s in _scales(part)]
    if not isinstance(spec, dict):
        return []
    here = [e["scale"] for e in [spec.get("color")] if isinstance(e, dict) and "domain" in (e.get("scale") or {})]
    return here + [s for part in spec.values() for s in _scales(part)]


def test_the_runs_shown_are_one_arm_s_smallest_deadly_and_largest_safe_burst(probed_scene: Probed) -> None:
    scene = probed_scene[1]
    twins = deadly_and_safe(scene)
    assert twins
    down, back = twins.down, twins.back
    assert (down.ask.router, down.ask.guard, down.ask.load_rps) == (back.ask.router, back.ask.guard, back.ask.load_rps)
    assert (down.verdict, back.verdict) == ("metastable", "recovered")
    down_k, back_k = spike_size(down.ask.trigger), spike_size(back.ask.trigger)
    assert down_k
    assert back_k
    assert back_k < down_k


def test_before_and_after_share_router_load_trigger_and_seed(probed_scene: Probed) -> None:
    scene = probed_scene[1]
    found = before_and_after(scene)
    assert found
    label, pairs = found
    assert any(c.recommended and c.guard == label for c in scene.findings.cures)
    for twins in pairs:
        assert twins.down.ask.guard == "none"
        assert twins.back.ask.guard == label
        one, other = ((t.ask.router, t.ask.load_rps, t.ask.trigger, t.ask.seed) for t in (twins.down, twins.back))
        assert one == other


def test_survival_curves_end_at_the_share_that_was_never_seen_back(probed_scene: Probed) -> None:
    con, scene = probed_scene
    rows = CHARTS["comeback_times"](con, scene)[0].data["rows"]
    pulses = [p for p in scene.findings.pulses if p.fraction == 0.7 and p.arm == ("round_robin", "none")]
    times = [t for p in pulses for t in p.times]
    last = rows.filter(pl.col("router") == "round_robin", pl.col("guard") == "none").sort("t")["share"][-1]
    assert last == pytest.approx(sum(not back for _, back in times) / len(times))


def test_a_second_that_no_table_holds_is_named(probed_scene: Probed) -> None:
    con, scene = probed_scene
    twins = deadly_and_safe(scene)
    assert twins
    cells = tuple(replace(a, cell_id="gone") if a == twins.down else a for a in scene.cells)
    with pytest.raises(ValueError, match="table seconds has nothing of cell 'gone'"):
        CHARTS["portraits"](con, replace(scene, cells=cells, number={a.cell_id: 1 for a in cells}))
