"""The page of a live run: one part a pool, nothing mixed, what stood in front, noise, the simulation beside the measurement."""

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from reports.charts import CHARTS
from reports.leaderboard import normal_day_rows, stampede_rows
from reports.live_words import self_test_sentence, self_test_warning
from reports.page import build_page
from reports.read_scene import cast_pools, enter, in_order, open_results, read_scenes, router_names
from reports.tables import build_tables
from tests.reports.conftest import Results
from tests.reports.live_folder import ARMS, SELF_TEST, SGLANG, TWIN, VLLM, LiveArm, make_live_run
from tests.reports.test_charts import marks, svg_of
from tests.reports.test_page import own


@pytest.fixture(scope="module")
def text(live_run: Path) -> str:
    return own((live_run / "report.html").read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style).*?</\1>", "", text, flags=re.DOTALL)).split())


def test_each_pool_has_a_scene_and_measured_ones_come_first(live_results: Results) -> None:
    scenes = live_results[1]
    assert [(s.pool.label, s.pool.live, s.pool.twin_of, s.repeats) for s in scenes] == [
        (VLLM, True, None, 2),
        (SGLANG, True, None, 2),
        (TWIN, False, VLLM, 1),
    ]
    assert [[r.label for r in s.routers] for s in scenes] == [
        ["direct", "round_robin", "cache_aware", "nginx: round_robin"],
        ["direct", "round_robin"],
        ["direct", "round_robin", "cache_aware"],
    ]
    colours = {(r.label, r.key, r.colour) for s in scenes for r in s.routers}
    assert len(colours) == 4  # a router looks the same in all of them


def test_no_number_of_one_pool_reaches_another(live_results: Results) -> None:
    """SGLang's made-up first tokens are 280 ms later than the slowest of vLLM's."""
    con, scenes = live_results
    for scene in scenes:
        enter(con, scene.pool)
        pool = scene.pool.label.replace("'", "''")
        cells = con.sql(f"SELECT count(*) FROM cells WHERE pool = '{pool}' AND phase = 'steady'").fetchall()[0][0]
        assert con.sql("SELECT count(*) FROM players").fetchall() == [(cells,)]
        best = min(r.ttft_p90.mean or 0 for r in normal_day_rows(con, scene))
        steady = f"pool = '{pool}' AND phase = 'steady'"
        low, high = con.sql(f"SELECT min(ttft_p90_s), max(ttft_p90_s) FROM cells WHERE {steady}").fetchall()[0]
        assert low <= best <= high
        assert all(r.runs == len(scene.seeds) * scene.repeats for r in stampede_rows(con, scene))


def test_what_stands_in_front_is_called_as_the_study_calls_it() -> None:
    asked = [
        {"name": "round_robin", "label": None, "gateway": None},
        {"name": "round_robin", "label": None, "gateway": "direct"},
        {"name": "cache_aware", "label": None, "gateway": "sglang_router", "arm": "bare"},
        {"name": "round_robin", "label": "mine", "gateway": "nginx"},
        "random",
    ]
    assert router_names(asked) == ["round_robin", "direct", "sglang_router: cache_aware, bare", "mine", "random"]
    assert in_order(["b", "a", "c"], ["c", "c", "x", "b"]) == ["c", "b", "a"]


def test_a_pool_without_a_label_keeps_its_place_in_the_study() -> None:
    cells = pl.DataFrame(
        [
            {"cell_id": pool, "driver": "wall", "pool_engine": pool[4:], "engine": "e", "pool": pool}
            for pool in (SGLANG, VLLM, "mine")
        ]
    )
    live = [{"engine": "vllm", "replicas": 4}]
    asked = [{"label": "mine"}, {"label": None, "live": live}, {"label": None, "live": {"engine": "sglang", "replicas": 4}}]
    assert [pool.label for pool, _ in cast_pools(cells, {"pool": asked})] == ["mine", VLLM, SGLANG]


def test_the_page_has_a_part_a_pool_and_no_id_twice(text: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {"p0-part", "p1-part", "p2-part", "p0-leaderboard", "p2-leaderboard", "p0-gateway-cost", "p0-twin-errors"} <= set(ids)
    assert "p2-gateway-cost" not in ids  # nothing stood in front of a simulated pool
    assert "p1-twin-errors" not in ids  # SGLang was not simulated
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert anchor in ids
    verdict = text.split('class="verdict"')[1].split("</div>")[0]
    assert re.findall(r'<h2 class="of">(.*?)</h2>', verdict) == [f"{VLLM}, measured", f"{SGLANG}, measured"]


def test_what_a_gateway_says_is_text(text: str) -> None:
    assert "<b>stream_options</b>" not in text
    assert "&lt;b&gt;stream_options&lt;/b&gt;.x" in text


def test_the_header_says_how_far_off_the_simulation_was(text: str) -> None:
    said = words(text.split('class="verdict"')[1].split("</div>")[0])
    assert "The simulation of the same requests was off by a median of" in said
    assert "in prefix hits over 3 arms; repeats of one measured run differ by" in said
    assert "the verdict was the same in 12 of 12 pairs" in said


def test_the_senders_test_resets_and_scrapes_are_told(text: str) -> None:
    said = words(text)
    assert "Before every measured run each replica’s prefix cache was emptied and proved empty" in said
    assert "24 looks at the replicas’ metrics brought nothing. The slowest sender’s p99 read lag is 4 ms." in said
    assert "was tried on a stub whose timing is known, at 100 requests a second: send error 0.1 ms (p50) and 0.8 ms (p99)" in said
    assert "it kept all its limits" in said


def test_every_chart_of_a_live_pool_draws(live_results: Results) -> None:
    con, scenes = live_results
    drawn: dict[str, list[str]] = {}
    for scene in scenes:
        enter(con, scene.pool)
        for name in ("instruments", "prefix_hits", "twin_errors"):
            figures = CHARTS[name](con, scene)
            drawn.setdefault(name, []).extend([scene.pool.key] if figures else [])
            for figure in figures[:1]:
                assert marks(svg_of(figure)) > 3, figure.key
    assert drawn == {"instruments": ["p0", "p1"], "prefix_hits": ["p0", "p1"], "twin_errors": ["p0"]}


def test_instruments_share_the_clock_of_the_goodput(live_results: Results) -> None:
    con, scenes = live_results
    enter(con, scenes[0].pool)
    figure = CHARTS["instruments"](con, scenes[0])[0]
    rows = figure.data["rows"]
    by_thing = {key: group for (key,), group in rows.group_by("s")}
    assert {series.label for series in figure.legend} == {*(f"replica {r} (vllm)" for r in range(4)), "GPU 0"}
    assert set(by_thing) == {"pool", "gateway", *(series.key for series in figure.legend)}
    assert set(by_thing["r0"]["t"]) <= set(by_thing["pool"]["t"])
    assert by_thing["r0"]["hit"].drop_nulls().round(2).unique().to_list() == [0.3]
    assert by_thing["gateway"]["cores"].drop_nulls().round(3).unique().to_list() == [0.2]
    assert by_thing["pool"]["running"].null_count() == by_thing["pool"].height


def test_the_senders_test_is_told_as_it_was() -> None:
    assert self_test_sentence(None) is None
    assert self_test_warning(SELF_TEST) is None
    failed: dict[str, Any] = {**SELF_TEST, "passed": False, "misses": ["send_p99_s", "drift_s"]}
    said = str(self_test_warning(failed))
    assert said.startswith("The sender failed its self-test")
    assert "(send error p99 and drift)" in said
    assert "it missed its limits (send error p99 above 1 ms and drift above 0.5 ms)" in str(self_test_sentence(failed))
    assert "not every answer was well" in str(self_test_sentence({**failed, "misses": []}))
    assert self_test_sentence({"error": "no port", "passed": False}) == "The sender’s self-test gave no result: no port."


def test_a_pool_whose_every_run_is_void_says_so_and_draws_nothing(tmp_path: Path) -> None:
    """The other pool's page stays whole."""
    void = {f"4×sglang-round_robin--s1-r{r}": {"void": "sender 0: <i>late</i>"} for r in (0, 1)}
    run = make_live_run(tmp_path / "run", [LiveArm("round_robin"), LiveArm("round_robin", pool=SGLANG)], seeds=(1,), changes=void)
    build_tables(run)
    page = own(build_page(run).read_text(encoding="utf-8"))
    assert "nothing was measured: every run is void" in page
    assert "4 × sglang, measured: 2 of 2 runs are void" in words(page)
    assert "void: sender 0: &lt;i&gt;late&lt;/i&gt;" in page
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert {"p0-timelines", "p0-instruments"} <= set(ids)
    assert not {"p1-timelines", "p1-instruments", "p1-answer-times"} & set(ids)


def test_events_of_a_live_pool_are_marked_on_every_clock(tmp_path: Path) -> None:
    """What cannot be counted is no count; an event that a run did not have is told."""
    kill = {"t_s": 80.0, "kind": "kill", "replica": 1, "for_s": 8.0, "lost": 3, "note": "restarted"}
    late = {"t_s": 140.0, "kind": "flush", "replica": None, "skipped": "not carried out: busy"}
    run = make_live_run(tmp_path / "run", [ARMS[0], ARMS[3]], seeds=(1,), repeats=2, events=[kill, late])
    build_tables(run)
    page = own(build_page(run).read_text(encoding="utf-8"))
    said = words(page)
    assert "1. replica 1 dies with all it holds and comes back with a cold cache" in said
    assert "Event 2: 4 of 4 runs ended before it, or it could not be carried out." in said
    assert "Attempts lost" in said
    with open_results(run / "results.duckdb") as con:
        (scene,) = read_scenes(con, yaml.safe_load((run / "study.yaml").read_text()))
        figure = CHARTS["instruments"](con, scene)[0]
        svg = svg_of(figure)
    assert "1. replica 1 killed" in svg
    assert "What happens to the pool" in svg


def test_one_live_pool_alone_needs_no_parts(tmp_path: Path) -> None:
    run = make_live_run(tmp_path / "run", [ARMS[0], ARMS[3]], seeds=(1,), repeats=1)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "self_test": None}))
    build_tables(run)
    page = own(build_page(run).read_text(encoding="utf-8"))
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert {"leaderboard", "instruments", "gateway-cost", "prefix-hits"} <= set(ids)
    assert 'class="part"' not in page
    assert "made up (synthetic traffic) · 4 × vllm, measured · 2 routers" in words(page)
    assert "simulated engine in virtual time" not in page


def test_a_simulated_run_shows_nothing_of_live_ones(page_run: Path) -> None:
    page = own((page_run / "report.html").read_text(encoding="utf-8"))
    for absent in ("measured", "Reset verified", "self-test", "direct", "Repeat", 'class="part"', "gateway"):
        assert absent not in page, absent
