"""The page in headless Chromium: every chart drawn, no request, no console message, sorting and tabs work."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars --remote-debugging-port=0"
)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]
NOISE = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")


class Tab:
    """One page over the DevTools protocol; `said` collects console messages, exceptions and log entries."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.calls = socket, 0
        self.said: list[str] = []
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        self.socket.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") in NOISE:
                self.said.append(json.dumps(message["params"])[:400])
            if message.get("id") == self.calls:
                assert "error" not in message, message
                return dict(message["result"])

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def open(self, page: Path, width: int, theme: str) -> None:
        """Opens the file and waits until it says that all is drawn."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=page.as_uri())
        until = time.monotonic() + 90
        while self.value("document.documentElement?.dataset.ready ?? ''") != "true":
            assert time.monotonic() < until, f"not drawn after 90 s: {self.said}"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    home = tmp_path_factory.mktemp("chromium")
    command = [str(CHROMIUM), *FLAGS.split(), f"--user-data-dir={home}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_socket_url(home), max_size=None, compression=None) as socket:
            yield Tab(socket)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _socket_url(home: Path) -> str:
    """The DevTools address of the first tab, once Chromium has written its port."""
    port_file, until = home / "DevToolsActivePort", time.monotonic() + 60
    while time.monotonic() < until:
        if port_file.is_file() and (lines := port_file.read_text().splitlines()):
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=10) as answer:
                pages = [t for t in json.load(answer) if t["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.1)
    raise TimeoutError("chromium did not open its debugging port within 60 s")


@pytest.fixture(scope="module")
def page(page_run: Path, tab: Tab) -> Tab:
    tab.open(page_run / "report.html", 1440, "light")
    return tab


def test_every_chart_is_drawn(page: Tab) -> None:
    drawn = page.value("""Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(place =>
        [place.dataset.chart, place.querySelectorAll('svg .role-mark path[d^=M], svg .role-mark line').length]))""")
    assert len(drawn) >= 9
    assert all(drawn.values()), drawn
    assert page.value("document.documentElement.dataset.errors") == "0"


def test_nothing_was_fetched_and_nothing_complained(page: Tab) -> None:
    assert page.value("performance.getEntriesByType('resource').map(entry => entry.name)") == []
    assert page.said == []


def test_hostile_names_did_not_run(page: Tab) -> None:
    assert page.value("document.querySelectorAll('img, iframe, object').length") == 0
    assert "<img src=x" in page.value("document.querySelector('#stampede-table').textContent")


def test_a_click_on_a_head_sorts_and_another_reverses(page: Tab) -> None:
    column = page.value(
        "[...document.querySelectorAll('#stampede-table th[data-column]')].findIndex(h => h.textContent.startsWith('Lost'))"
    )
    seen = []
    for _ in range(2):
        page.value(f"document.querySelectorAll('#stampede-table th[data-column] button')[{column}].click()")
        seen.append(
            page.value(
                f"[...document.querySelector('#stampede-table').tBodies[0].rows].map(r => +r.cells[{column}].dataset.sort)"
            )
        )
    assert len(set(seen[0])) > 1
    assert seen[0] == sorted(seen[0])
    assert seen[1] == sorted(seen[0], reverse=True)
    state = page.value(f"document.querySelectorAll('#stampede-table th[data-column]')[{column}].getAttribute('aria-sort')")
    assert state == "descending"


def test_tabs_show_one_panel_and_obey_the_arrow_keys(page: Tab) -> None:
    shown = "[...document.querySelectorAll('#timelines [role=tabpanel]')].map(p => !p.hidden)"
    assert page.value(shown) == [True, False]
    page.value("""document.querySelector('#timelines [role=tab]').dispatchEvent(
        new KeyboardEvent('keydown', { key: 'ArrowRight', bubbles: true }))""")
    assert page.value(shown) == [False, True]
    assert page.value("document.activeElement.getAttribute('aria-selected')") == "true"


def test_the_legend_singles_a_router_out(page: Tab) -> None:
    faint = """[...document.querySelectorAll('#timelines .mark-line path')].filter(
        path => Number(path.getAttribute('opacity') ?? 1) < 0.5).length"""
    assert page.value(faint) == 0
    page.value("document.querySelector('#timelines .legend button').click()")
    time.sleep(0.5)
    assert page.value(faint) > 0
    page.value("document.querySelector('#timelines .legend button').click()")


def test_the_data_table_holds_every_row(page: Tab) -> None:
    page.value("document.querySelector('details[data-rows=comebacks]').open = true")
    time.sleep(0.3)
    rows = "document.querySelectorAll('details[data-rows=comebacks] tbody tr').length"
    wanted = "JSON.parse(document.getElementById('data-comebacks').textContent).datasets.rows.s.length"
    assert page.value(rows) == page.value(wanted) == 6


def test_dark_and_light_differ_in_data_colours(page: Tab) -> None:
    stroke = "getComputedStyle(document.querySelector('#timelines .mark-line path')).stroke"
    light = page.value(stroke)
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.value(stroke) != light
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (390, "light")])
def test_pool_events_are_named_above_the_timelines(events_run: Path, tab: Tab, width: int, theme: str) -> None:
    """Every event has its label, inside the chart and over no other; the page stays as wide as the screen."""
    tab.said.clear()
    tab.open(events_run / "report.html", width, theme)
    assert tab.value("document.documentElement.dataset.errors") == "0"
    assert tab.said == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    boxes = tab.value("""[...document.querySelectorAll('#timelines .mark-text.role-mark text')].map(label => {
        const box = label.getBoundingClientRect(), chart = label.closest('.chart').getBoundingClientRect();
        return { said: label.textContent, left: box.left - chart.left, right: chart.right - box.right,
                 place: [box.left, box.top, box.right, box.bottom] }; })""")
    assert sorted(box["said"] for box in boxes) == [
        "1. all replicas 3× slower",
        "2. replica 0 killed",
        "3. all caches emptied",
        "4. replica 1 refuses 50%",
    ]
    assert all(min(box["left"], box["right"]) >= 0 for box in boxes)
    for one, other in combinations([box["place"] for box in boxes], 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] + 2 or other[3] <= one[1] + 2
        assert apart, (one, other)


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_a_page_of_several_pools_is_whole(live_run: Path, tab: Tab, width: int, theme: str) -> None:
    """Charts, tabs and legends of each pool's part work by themselves; a click in one leaves the others alone."""
    tab.said.clear()
    tab.open(live_run / "report.html", width, theme)
    assert tab.value("document.documentElement.dataset.errors") == "0"
    assert tab.said == []
    assert tab.value("document.documentElement.scrollWidth") <= width
    drawn = tab.value("""Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(place =>
        [place.dataset.chart, place.querySelectorAll('svg .role-mark path[d^=M], svg .role-mark line').length]))""")
    assert {"p0-instruments-c0-r0", "p1-instruments-c0-r0", "p0-prefix-hits", "p0-twin-errors", "p2-timeline-c0"} <= set(drawn)
    assert all(drawn.values()), drawn
    shown = "[...document.querySelectorAll('#{}-instruments [role=tabpanel]')].map(p => !p.hidden)"
    tab.value("document.querySelectorAll('#p0-instruments [role=tab]')[1].click()")
    assert tab.value(shown.format("p0"))[:2] == [False, True]
    assert tab.value(shown.format("p1"))[:2] == [True, False]
    faint = """[...document.querySelectorAll('#{}-twin-errors .mark-symbol path, #{}-prefix-hits .mark-symbol path')].filter(
        path => Number(path.getAttribute('opacity') ?? 1) < 0.5).length"""
    tab.value("document.querySelector('#p0-twin-errors .legend button').click()")
    time.sleep(0.5)
    assert tab.value(faint.format("p0", "none")) > 0
    assert tab.value(faint.format("none", "p0")) == 0


def test_a_phone_scrolls_down_only(page_run: Path, tab: Tab) -> None:
    """Last, for it opens the page anew: no chart is wider than its place, and the page is no wider than the screen."""
    tab.open(page_run / "report.html", 390, "dark")
    assert tab.value("document.documentElement.scrollWidth") <= 390
    too_wide = tab.value("""[...document.querySelectorAll('[data-chart]')].filter(place =>
        Number(place.querySelector('svg').getAttribute('width')) > place.closest('[data-room]').clientWidth
    ).map(place => place.dataset.chart)""")
    assert too_wide == []
