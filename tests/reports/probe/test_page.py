"""The probe's page: one file, offline, escaped; every number names its cells; what was not run is said and left out."""

import json
import re
from pathlib import Path

import pytest

from reports.probe.page import SECTIONS, build_probe_page
from reports.probe.scene import evidence
from tests.reports.probe.conftest import Probed


def own(text: str) -> str:
    """The page without the chart library, whose source holds anything."""
    return re.sub(r"<script>.*?</script>", "<script></script>", text, flags=re.DOTALL)


def test_the_sentence_comes_first_and_the_map_second(probe_text: str) -> None:
    page = own(probe_text)
    verdict = page.index('class="verdict"')
    assert page.index("<h1>") < verdict < page.index('id="frontier"') < page.index('id="recovery-map"') < page.index('id="cures"')
    first = re.findall(r"<p>(.*?)</p>", page[verdict:])[0].replace("\u00a0", " ")
    assert re.match(
        r"At 70% load \(21 req/s\), \S+ stays down after a [\d.]+× burst of 20 s in (?:all \d+|\d+ of \d+) runs; ",
        first,
    )


def test_every_section_is_there_when_every_phase_was_run(probe_text: str) -> None:
    page = own(probe_text)
    for key, title, nav in SECTIONS:
        assert f'<section id="{key}"' in page, key
        assert f'<a href="#{key}">{nav}</a>' in page
        assert f"<h2>{title}</h2>" in page
    assert 'id="left-out"' not in page


def test_phases_that_were_not_run_are_one_line_each(partial_run: Path) -> None:
    page = own((partial_run / "report.html").read_text(encoding="utf-8"))
    said = page.split('id="left-out"')[1].split("</section>")[0]
    for phase in ("P2", "P3", "P4", "P5", "P6"):
        assert said.count(phase) == 1
    assert "P0" not in said
    assert "P1" not in said
    for key in ("frontier", "recovery-map", "cures", "loops", "comeback-times", "portraits", "before-after", "causes", "pulses"):
        assert f'id="{key}"' not in page
    assert 'id="capacities"' in page
    assert "The frontier was not asked for in this run" in page


def test_hostile_names_are_text(partial_run: Path) -> None:
    page = own((partial_run / "report.html").read_text(encoding="utf-8"))
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


def test_nothing_is_fetched_and_only_two_scripts_run(probe_text: str) -> None:
    assert not re.findall(r'\s(?:src|href)\s*=\s*"(?!#|data:)', own(probe_text))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', probe_text)
    assert policy
    assert policy[1].count("'sha256-") == len(re.findall(r"<script>", probe_text)) == 2


def test_charts_have_a_specification_and_data_each(probe_text: str) -> None:
    page = own(probe_text)
    charts = re.findall(r'data-chart="([^"]+)" data-spec="([^"]+)"', page)
    assert len(charts) == len({key for key, _ in charts}) >= 9
    for key, spec in charts:
        assert page.count(f'id="spec-{spec}"') == 1, key
        body = json.loads(page.split(f'id="data-{key}">')[1].split("</script>")[0])
        assert set(body["columns"]) <= set(body["datasets"]["rows"])
        assert len(next(iter(body["datasets"]["rows"].values()))) > 0, key


def test_numbered_cells_are_in_the_list_of_all_cells(probe_text: str, probed_scene: Probed) -> None:
    scene = probed_scene[1]
    body = json.loads(own(probe_text).split('id="data-cells">')[1].split("</script>")[0])["datasets"]["rows"]
    assert body["no"] == [str(i) for i in range(1, len(scene.cells) + 1)]
    assert body["cell"] == [a.cell_id for a in scene.cells]
    assert body["verdict"] == [a.verdict for a in scene.cells]
    cause = scene.findings.causes[0]
    assert evidence(scene, cause.cells) in own(probe_text)


def test_tables_have_captions_scoped_heads_and_as_many_cells_as_heads(probe_text: str) -> None:
    tables = re.findall(r"<table.*?</table>", own(probe_text), flags=re.DOTALL)
    assert len(tables) >= 9
    for table in tables:
        assert "<caption>" in table
        heads = len(re.findall(r'<th scope="col" data-column', table))
        for row in re.findall(r"<tr>\s*<th scope=\"row\".*?</tr>", table, flags=re.DOTALL):
            assert len(re.findall(r"<t[dh]\b", row)) == heads


def test_the_page_is_small_and_the_same_when_written_again(probe_run: Path, probe_text: str) -> None:
    assert len(probe_text.encode()) < 2_000_000
    build_probe_page(probe_run)
    assert (probe_run / "report.html").read_text(encoding="utf-8") == probe_text
    assert not list(probe_run.glob(".report*"))


def test_missing_results_are_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("name: x")
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"results\.duckdb: missing; allowed: the tables that `stampede probe` writes"):
        build_probe_page(tmp_path)


def test_a_changed_pool_is_said_before_the_facts(probe_text: str) -> None:
    page = own(probe_text)
    note = page.index("The replicas are changed from what was measured: max_running 24. Loads")
    assert page.index('class="verdict"') < note < page.index('class="facts"')
