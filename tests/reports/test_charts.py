"""Every chart of the gallery renders, from a whole study and from the smallest one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
import vl_convert
import yaml

from reports.charts import CHARTS
from reports.charts.answer_times import points
from reports.charts.figure import MAX_ROWS, Figure
from reports.charts.timelines import bin_s
from reports.read_scene import open_results, read_scene
from reports.scene import Scene
from reports.tables import build_tables
from reports.theme import vega_config
from tests.reports.run_folder import ORPHANED, Arm, make_run_folder

OF_LIVE_POOLS = ("instruments", "prefix_hits", "twin_errors")
Results = tuple[duckdb.DuckDBPyConnection, Scene]


def opened(run: Path) -> Iterator[Results]:
    with open_results(run / "results.duckdb") as con:
        yield con, read_scene(con, yaml.safe_load((run / "study.yaml").read_text()))


@pytest.fixture(scope="module")
def results(page_run: Path) -> Iterator[Results]:
    yield from opened(page_run)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """One router, one client, one seed, no trigger."""
    arms = [Arm("round_robin", ORPHANED, "healthy", trigger="placebo")]
    run = make_run_folder(tmp_path_factory.mktemp("smallest") / "run", arms, seeds=(7,))
    build_tables(run)
    yield from opened(run)


def svg_of(figure: Figure) -> str:
    spec: dict[str, Any] = figure.to_vega_lite() | {"config": vega_config()}
    return str(vl_convert.vegalite_to_svg(spec))


def marks(svg: str) -> int:
    """Drawn data marks: what lies in a mark group of role `mark`, frames left out."""
    groups = re.findall(r'class="mark-(?:line|symbol|area|rule)[^"]*role-mark[^"]*"[^>]*>(.*?)</g>', svg, flags=re.DOTALL)
    return sum(len(re.findall(r'<path[^>]* d="M[^"]|<line', group)) for group in groups)


@pytest.mark.parametrize("name", list(CHARTS))
def test_every_chart_renders(results: Results, name: str) -> None:
    for figure in CHARTS[name](*results):
        svg = svg_of(figure)
        assert marks(svg) > 0, figure.key
        assert "NaN" not in svg, figure.key
        assert "undefined" not in svg, figure.key


@pytest.mark.parametrize("name", list(CHARTS))
def test_the_smallest_study_leaves_out_what_it_cannot_show(smallest: Results, name: str) -> None:
    figures = CHARTS[name](*smallest)
    assert (figures == []) == (name in ("comebacks", "cures", *OF_LIVE_POOLS))
    for figure in figures:
        assert marks(svg_of(figure)) > 0, figure.key


def test_a_router_has_the_same_colour_everywhere(results: Results) -> None:
    scene = results[1]
    colours = {r.key: r.colour for r in scene.routers}
    assert len(set(colours.values())) == len(colours)
    for figures in (draw(*results) for name, draw in CHARTS.items() if name not in OF_LIVE_POOLS):
        for scale in scales(figures[0].chart.to_dict() if figures[0].by_router else {}, "color"):
            assert dict(zip(scale["domain"], scale["range"], strict=True)) == colours


def scales(spec: Any, channel: str) -> list[dict[str, Any]]:
    if isinstance(spec, list):
        return [s for part in spec for s in scales(part, channel)]
    if not isinstance(spec, dict):
        return []
    here = [e["scale"] for e in [spec.get(channel)] if isinstance(e, dict) and "domain" in e.get("scale", {})]
    return here + [s for part in spec.values() for s in scales(part, channel)]


def test_cumulative_shares_end_at_the_share_that_was_answered(results: Results) -> None:
    con, scene = results
    figure = next(f for f in CHARTS["answer_times"](con, scene) if f.key == "answer-times-c0")
    rows = figure.data["rows"].filter(pl.col("span") == "after", pl.col("measure") == "e2e")
    for s, share, slowest in rows.group_by("s").agg(pl.col("share").max(), pl.col("seconds").max()).iter_rows():
        wanted = con.sql(f"""
            SELECT avg((outcome = 'ok')::INT), max(e2e_s) FROM requests JOIN players USING (cell_id)
            WHERE router = '{s}' AND condition = 'c0' AND phase IN ('trigger', 'recovery')""").fetchall()[0]
        assert (share, slowest) == pytest.approx(wanted)
        assert rows.filter(pl.col("s") == s)["share"].is_sorted()


@pytest.mark.parametrize(("routers", "wanted"), [(1, 60), (20, 60), (21, 59), (31, 40)])
def test_many_routers_have_fewer_points_each(routers: int, wanted: int) -> None:
    assert points(routers) == wanted
    assert 4 * wanted * routers <= MAX_ROWS


def test_an_equal_share_is_one(results: Results) -> None:
    for figure in CHARTS["shares"](*results):
        means = figure.data["rows"].group_by("s", "span").agg(pl.col("attempts", "work").mean())
        assert means["attempts"].to_list() == pytest.approx([1.0] * means.height)
        assert means["work"].to_list() == pytest.approx([1.0] * means.height)


def test_timelines_add_up_to_the_attempts_that_were_made(results: Results) -> None:
    con, scene = results
    figure = next(f for f in CHARTS["timelines"](con, scene) if f.key == "timeline-c0")
    rows = figure.data["rows"].filter(pl.col("s") == "r0")
    made = con.sql("""SELECT count(*) / count(DISTINCT cell_id) FROM attempts JOIN players USING (cell_id)
                      WHERE router = 'r0' AND condition = 'c0' AND attempt > 0""").fetchall()[0][0]
    assert float(rows["attempts"].sum()) * bin_s(scene) == pytest.approx(made, rel=0.01)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="5001 rows of rows; at most 5000"):
        Figure("k", "t", "c", None, {"rows": pl.DataFrame({"x": range(MAX_ROWS + 1)})}, {"x": "x"})
