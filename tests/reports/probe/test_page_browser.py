"""The probe's page in headless Chromium: every chart drawn, no request, no message, nothing wider than the screen."""

from itertools import combinations
from pathlib import Path

import pytest

from tests.reports.test_browser import CHROMIUM, Tab
from tests.reports.test_browser import tab as chromium_tab

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]
tab = chromium_tab


@pytest.fixture(scope="module")
def page(probe_run: Path, tab: Tab) -> Tab:
    tab.said.clear()
    tab.open(probe_run / "report.html", 1440, "light")
    return tab


def test_every_chart_is_drawn_and_nothing_is_fetched(page: Tab) -> None:
    drawn = page.value("""Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(place =>
        [place.dataset.chart, place.querySelectorAll('svg .role-mark path[d^=M], svg .role-mark line').length]))""")
    assert len(drawn) >= 9
    assert all(drawn.values()), drawn
    assert page.value("document.documentElement.dataset.errors") == "0"
    assert page.value("performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert page.said == []


def test_the_size_axis_names_its_lanes(page: Tab) -> None:
    said = page.value("[...document.querySelectorAll('#frontier .role-axis-label text')].map(label => label.textContent)")
    assert {"unstable", "< 1.25×", "> 8×", "2×", "4×"} <= set(said)


def test_every_table_of_data_opens(page: Tab) -> None:
    counts = page.value("""(async () => {
        const all = [...document.querySelectorAll('details[data-rows]')];
        all.forEach(details => { details.open = true; });
        await new Promise(done => setTimeout(done, 500));
        const rows = (key) => JSON.parse(document.getElementById('data-' + key).textContent).datasets.rows;
        return all.map(details => [details.dataset.rows, details.querySelectorAll('tbody tr').length,
            Object.values(rows(details.dataset.rows))[0].length]);
    })()""")
    assert len(counts) >= 10
    assert [c for c in counts if c[1] != c[2] or c[1] == 0] == []
    page.value("document.querySelectorAll('details').forEach(details => { details.open = false; })")


def test_the_legend_singles_a_router_out(page: Tab) -> None:
    faint = """[...document.querySelectorAll('#frontier .mark-line path')].filter(
        path => Number(path.getAttribute('opacity') ?? 1) < 0.5).length"""
    assert page.value(faint) == 0
    page.value("document.querySelector('#frontier .legend button').click()")
    assert page.value(f"(async () => {{ await new Promise(done => setTimeout(done, 500)); return {faint}; }})()") > 0
    page.value("document.querySelector('#frontier .legend button').click()")


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1440, "dark")])
def test_no_label_lies_on_another_and_nothing_is_too_wide(probe_run: Path, tab: Tab, width: int, theme: str) -> None:
    tab.open(probe_run / "report.html", width, theme)
    assert tab.value("document.documentElement.dataset.errors") == "0"
    assert tab.value("document.documentElement.scrollWidth") <= width
    too_wide = tab.value("""[...document.querySelectorAll('[data-chart]')].filter(place => !place.closest('[hidden]') &&
        Number(place.querySelector('svg').getAttribute('width')) > place.closest('[data-room]').clientWidth
    ).map(place => place.dataset.chart)""")
    assert too_wide == []
    charts = tab.value("""[...document.querySelectorAll('[data-chart]')].filter(place => !place.closest('[hidden]')).map(place =>
        [...place.querySelectorAll('text')].filter(text => text.textContent.trim()).map(text => {
            const box = text.getBoundingClientRect();
            return [text.textContent, box.left, box.top, box.right, box.bottom]; }))""")
    assert sum(len(labels) for labels in charts) > 100
    for labels in charts:
        for one, other in combinations(labels, 2):
            apart = one[3] <= other[1] + 1 or other[3] <= one[1] + 1 or one[4] <= other[2] + 4 or other[4] <= one[2] + 4
            assert apart, (one, other)
