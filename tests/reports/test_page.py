"""The page: one file, offline, escaped, whole or not there at all."""

import json
import re
import shutil
from pathlib import Path

import pytest

from reports.page import build_page
from reports.page_frame import script_json
from reports.tables import build_tables
from tests.reports.conftest import HOSTILE
from tests.reports.run_folder import CANCEL, Arm, make_run_folder


@pytest.fixture(scope="module")
def text(page_run: Path) -> str:
    return (page_run / "report.html").read_text(encoding="utf-8")


def own(text: str) -> str:
    """The page without the chart library, whose source holds anything."""
    return re.sub(r"<script>.*?</script>", "<script></script>", text, flags=re.DOTALL)


def test_the_verdict_comes_before_everything_else(text: str) -> None:
    verdict = re.findall(r"<p>(.*?)</p>", own(text).split('class="verdict"')[1].split("</div>")[0])
    assert len(verdict) == 2
    assert verdict[0].startswith("On a normal day at 12 req/s, both routers answer equally fast as far as 3 runs can tell")
    assert verdict[1].startswith(
        "After a 3× burst of 10 s, with “retry for ever, orphaned”, both routers stay down in every run;"
    )
    assert "with “retry for ever, cancelled” the same routers come back in every run, within 15 s" in verdict[1]


def test_a_killed_run_says_first_what_is_missing(tmp_path: Path) -> None:
    arms = [Arm("round_robin", CANCEL, "recovered"), Arm("random", CANCEL, "recovered"), Arm("hash", CANCEL, "healthy")]
    run = make_run_folder(tmp_path / "run", arms, seeds=(1, 2))
    manifest = json.loads((run / "manifest.json").read_text())
    capacity = {"c_ref_rps": 3.4, "idle_success": 0.961}
    (run / "manifest.json").write_text(json.dumps({**manifest, "cells": {"total": 6, "found_again": 0}, "capacity": capacity}))
    for cell in [*run.glob("cells/hash*"), *run.glob("cells/random*-s2")]:
        shutil.rmtree(cell)
    build_tables(run)
    page = own(build_page(run).read_text(encoding="utf-8"))
    first, second = page.index("3 of 6 cells are missing: "), page.index('class="verdict"')
    assert page.index("<h1>") < first < second < page.index("Even a nearly idle pool meets the SLO for only 96.1% of requests")
    assert "Nothing at all was run of hash." in page


def test_a_whole_run_lacks_nothing(text: str) -> None:
    assert "missing" not in own(text).split("<nav")[0].split("<header>")[1]


def test_hostile_names_are_text(text: str) -> None:
    assert HOSTILE not in text
    assert "<img" not in own(text)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_only_the_two_hashed_scripts_may_run(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy[1]
    assert "'unsafe-inline'" not in policy[1].split("style-src")[0]
    assert policy[1].count("'sha256-") == len(re.findall(r"<script>", text)) == 2


def test_nothing_is_fetched(text: str) -> None:
    assert not re.findall(r'\s(?:src|href)\s*=\s*"(?!#|data:)', own(text))
    assert "@import" not in own(text)
    assert "url(" not in own(text)


def test_every_chart_has_data_as_a_table_and_a_name(text: str) -> None:
    keys = re.findall(r'data-chart="([^"]+)"', own(text))
    assert len(keys) == len(set(keys)) >= 9
    for key in keys:
        body = re.search(rf'id="data-{key}">(.*?)</script>', text, flags=re.DOTALL)
        assert body
        assert f'data-rows="{key}"' in text
        rows = json.loads(body[1])
        assert set(rows["columns"]) <= set(rows["datasets"]["rows"])
        assert {len(column) for column in rows["datasets"]["rows"].values()} != {0}


def test_tables_have_captions_and_scoped_heads(text: str) -> None:
    for table in re.findall(r"<table.*?</table>", own(text), flags=re.DOTALL):
        assert "<caption>" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))


def test_provenance_shows_what_was_dropped_and_that_it_is_synthetic(text: str) -> None:
    assert "SYNTHETIC: made by a seeded generator" in text
    assert "rows dropped, by reason" in text
    assert "empty prompt: 3" in text
    assert "0123456789abcdef" in text


def test_size_is_dominated_by_the_library(text: str) -> None:
    assert len(text.encode()) < 1_500_000


def test_missing_inputs_are_named_and_leave_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study\.yaml: missing"):
        build_page(tmp_path)
    (tmp_path / "study.yaml").write_text("name: x")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json: cannot be read"):
        build_page(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"results\.duckdb: missing"):
        build_page(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "study.yaml"]


def test_json_in_a_script_cannot_end_it() -> None:
    hostile = {"a": "</script><!--\u2028"}
    assert "<" not in script_json(hostile)
    assert json.loads(script_json(hostile)) == hostile


def test_building_again_gives_the_same_page(page_run: Path, text: str) -> None:
    assert build_page(page_run).read_text(encoding="utf-8") == text
