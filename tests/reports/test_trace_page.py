"""A trace's page: one file, offline, escaped, every chart drawn or said to be missing; words that follow from the numbers."""

import copy
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from reports.charts.figure import Figure
from reports.theme import vega_config
from reports.trace_charts import TRACE_CHARTS
from reports.trace_page import build_trace_page
from reports.trace_sentences import duration, fidelity_verdict, notes, verdict
from tests.reports.test_browser import CHROMIUM, Tab, tab  # noqa: F401
from tests.workloads.traces import chat, trace_of
from workloads.description import describe
from workloads.fidelity import fidelity
from workloads.plan import Plan
from workloads.sources.synthetic import SyntheticParameters, generate
from workloads.synthesis import synthesize

HOSTILE = "<img src=x onerror=alert(1)>\"'&</script>"


def full() -> dict[str, Any]:
    """A description with every chart: dated, ten days long, sessions, tenants; the file and a language have hostile names."""
    import numpy as np

    made = generate(SyntheticParameters(sessions=1500))
    starts = np.sort(np.random.default_rng(1).uniform(0, 10 * 86_400, len(made))) * 1e6 + 1.7e15
    import pyarrow as pa

    table = made.table.append_column("start_us", pa.array(starts.astype(np.int64)))
    table = table.append_column("language", pa.array([HOSTILE if i % 3 else "English" for i in range(len(made))]))
    changes: Any = {
        "file": HOSTILE,
        "rows_dropped": {"empty prompt": 3},
        "rows_changed": {"tick moved": 7},
        "token_counts": "estimated",
    }
    return describe(type(made).of_table("synthetic", table, {**made.provenance, **changes}))


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    made = full()
    made["published"] = [{"key": "input_tokens.mean", "published": 1000.0, "measured": 1100.0, "difference_pct": 10.0}]
    return made


@pytest.fixture(scope="module")
def least() -> dict[str, Any]:
    return describe(trace_of(chat("a", (4, 4)), chat("b", (9, 2))))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    trace = generate(SyntheticParameters(sessions=400))
    return fidelity(trace, synthesize(trace, Plan(), 10.0, 1))


@pytest.fixture(scope="module")
def page(facts: dict[str, Any], rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trace-page")
    hostile = [*rows, {**rows[0], "metric": HOSTILE, "why": HOSTILE}]
    path = build_trace_page(facts, folder / "page.html", fidelity=hostile, title=HOSTILE)
    assert [p.name for p in folder.iterdir()] == ["page.html"]
    return path


def own(path: Path) -> str:
    """The page without the chart library, whose source holds anything."""
    return re.sub(r"<script>.*?</script>", "<script></script>", path.read_text(encoding="utf-8"), flags=re.DOTALL)


# Charts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRACE_CHARTS)
def test_every_chart_renders_or_says_in_one_sentence_why_not(name: str, facts: dict[str, Any], least: dict[str, Any]) -> None:
    figure = TRACE_CHARTS[name](facts)
    assert isinstance(figure, Figure)
    drawn = vl_convert.vegalite_to_svg(figure.to_vega_lite() | {"config": vega_config()})
    assert re.search(r'<path[^>]* d="M|<line|<rect', drawn)
    assert set(figure.columns) <= set(figure.data["rows"].columns)
    missing = TRACE_CHARTS[name](least)
    if isinstance(missing, str):
        assert re.fullmatch(r"N(o|othing) .*\.", missing)


def test_the_smallest_trace_still_has_its_lengths(least: dict[str, Any]) -> None:
    assert [n for n, draw in TRACE_CHARTS.items() if isinstance(draw(least), Figure)] == ["input_lengths", "output_lengths"]


def test_constant_arrivals_have_no_logarithm_to_draw(facts: dict[str, Any]) -> None:
    """A series that never varies has index of dispersion 0, which a logarithmic axis cannot show."""
    even = copy.deepcopy(facts)
    even["dispersion"] = {"window_s": [1.0, 10.0], "iod": [0.0, 0.0]}
    assert TRACE_CHARTS["dispersion"](even) == "No burstiness by time scale: too few events, or all evenly spaced."


# Words ---------------------------------------------------------------------------------------------------------------


def traffic(cv: float, iod: float, turns: int = 19366, sessions: int = 19366) -> dict[str, Any]:
    arrivals = {"span_s": 3501.7, "rate_rps": sessions / 3501.7, "gap_cv": cv, "iod_60s": iod, "iod_10s": 3.0, "iod_1s": 1.3}
    lengths = {"p50": 1035.0, "p99": 4122.0}
    return {
        "turns": turns,
        "sessions": sessions,
        "arrivals": arrivals,
        "input_tokens": lengths,
        "output_tokens": {"p50": 140.0, "p99": 611.0},
        "turns_per_session": {"mean": turns / sessions, "max": 9 if turns > sessions else 1},
        "reuse": {"token_share": 0.0, "within_sessions": 0.0, "across_sessions": 0.0},
        "reuse_distance": None,
    }


def test_the_verdict_of_a_trace_that_looks_poisson_but_is_not() -> None:
    assert verdict(traffic(1.07, 12.5)) == [
        "19,366 requests over 58 min, 5.53 a second: Poisson-like gaps (CV 1.07), but bursts or drift at the scale of a minute "
        "(IoD 12.5 at 60 s; Poisson has 1).",
        "The median prompt has 1,035 tokens (p99 4,122), the median answer 140 (p99 611).",
        "Nothing is shared between requests, so a prefix cache cannot help.",
    ]


@pytest.mark.parametrize(
    ("cv", "iod", "said"),
    [
        (0.05, 0.1, "evenly spaced (CV 0.05, IoD 0.1 at 60 s; Poisson has 1 and 1)"),
        (0.6, 0.4, "steadier than Poisson (CV 0.6"),
        (1.0, 1.1, "Poisson-like gaps (CV 1, IoD 1.1 at 60 s; Poisson has 1 and 1)"),
        (13.7, 190.0, "bursty gaps (CV 13.7, IoD 190 at 60 s"),
    ],
)
def test_burstiness_in_words(cv: float, iod: float, said: str) -> None:
    assert said in verdict(traffic(cv, iod))[0]


def test_sharing_in_words() -> None:
    facts = traffic(1.0, 1.0, turns=40_000, sessions=10_000)
    facts["reuse"] = {"token_share": 0.97, "within_sessions": 0.82, "across_sessions": 0.15}
    facts["reuse_distance"] = {"most_of_reuse": 505_310}
    first, second, third = verdict(facts)
    assert first.startswith("40,000 requests in 10,000 sessions over 58 min, 2.86 sessions a second")
    assert second.endswith("; a session has 4 turns on average.")
    assert third == (
        "97% of the prompt tokens were seen before (82% in a session’s own history and 15% between sessions); to hit nine tenths "
        "of that, one cache must hold 505,310 tokens."
    )
    facts["reuse"] = {"token_share": 0.35, "within_sessions": 0.0, "across_sessions": 0.35}
    facts["reuse_distance"] = {"most_of_reuse": 13_971_083}
    assert verdict(facts)[2].startswith("35% of the prompt tokens were seen before (all between sessions); ")
    assert verdict(facts)[2].endswith("must hold 14 million tokens.")


def test_notes_name_all_that_a_reader_must_know_first(facts: dict[str, Any], least: dict[str, Any]) -> None:
    assert notes(facts) == [
        "Synthetic: made by a generator, not recorded traffic.",
        "Token counts are estimated.",
        "Rows dropped: empty prompt: 3.",
        "Rows changed: tick moved: 7.",
    ]
    assert notes(least) == ["Synthetic: made by a generator, not recorded traffic."]


def test_durations_are_no_finer_than_a_reader_needs() -> None:
    assert [duration(s) for s in (45.0, 3501.7, 12_000.0, 9 * 86_400.0)] == ["45 s", "58 min", "3 h 20 min", "9 days"]


def test_the_fidelity_verdict_counts(rows: list[dict[str, Any]]) -> None:
    some = [{"verdict": v} for v in ("same", "same", "differs", "by design")]
    assert fidelity_verdict(some) == "2 of 3 comparisons agree within chance or 1%; not meant to agree, and why: 1 more."


# The file ------------------------------------------------------------------------------------------------------------


def test_hostile_names_are_text(page: Path) -> None:
    text = own(page)
    assert HOSTILE not in text
    assert "<img" not in text
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") >= 5


def test_only_the_two_hashed_scripts_may_run_and_nothing_is_fetched(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy[1]
    assert policy[1].count("'sha256-") == len(re.findall(r"<script>", text)) == 2
    assert not re.findall(r'\s(?:src|href)\s*=\s*"(?!#|data:)', own(page))
    assert "url(" not in own(page)
    assert len(text.encode()) < 1_300_000


def test_charts_have_names_and_tables_and_all_sections_are_in_the_contents(page: Path) -> None:
    text = own(page)
    keys = re.findall(r'data-chart="([^"]+)"', text)
    assert len(keys) == len(set(keys)) == len(TRACE_CHARTS)
    for key in keys:
        body = re.search(rf'id="data-{key}">(.*?)</script>', text, flags=re.DOTALL)
        assert body
        rows = json.loads(body[1])
        assert set(rows["columns"]) <= set(rows["datasets"]["rows"])
        assert f'id="spec-{key}"' in text
        assert f'data-rows="{key}"' in text
    assert re.findall(r'<a href="#([^"]+)"', text) == re.findall(r'<section id="([^"]+)"', text)
    for table in re.findall(r"<table.*?</table>", text, flags=re.DOTALL):
        assert "<caption>" in table
        assert all("scope=" in head for head in re.findall(r"<th\b[^>]*>", table))


def test_the_page_says_where_the_trace_comes_from(page: Path, facts: dict[str, Any]) -> None:
    text = own(page)
    assert facts["provenance"]["sha256"] in text
    assert "SYNTHETIC: made by a seeded generator" in text
    assert 'id="published-table"' in text
    assert "+10.0%" in text
    assert 'id="fidelity-table"' in text


def test_without_a_comparison_there_is_no_such_section(least: dict[str, Any], tmp_path: Path) -> None:
    text = own(build_trace_page(least, tmp_path / "least.html"))
    assert 'id="fidelity"' not in text
    assert "<dt>fidelity</dt>" not in text
    assert "Nothing over time: the trace has no clock." in text
    assert "<title>The trace by hand</title>" in text


def test_a_page_that_cannot_be_written_leaves_nothing(least: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OSError, match="page"):
        build_trace_page(least, tmp_path / "page.html")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


# The browser ---------------------------------------------------------------------------------------------------------

in_a_browser = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]


@pytest.fixture(scope="module")
def shown(page: Path, tab: Tab) -> Tab:  # noqa: F811
    tab.open(page, 1440, "light")
    return tab


class TestInABrowser:
    pytestmark = in_a_browser

    def test_every_chart_is_drawn_and_nothing_complains_or_is_fetched(self, shown: Tab) -> None:
        drawn = shown.value("""Object.fromEntries([...document.querySelectorAll('[data-chart]')].map(place => [
            place.dataset.chart, place.querySelectorAll('svg .role-mark path[d^=M], svg .role-mark line').length]))""")
        assert len(drawn) == len(TRACE_CHARTS)
        assert all(drawn.values()), drawn
        assert shown.value("document.documentElement.dataset.errors") == "0"
        assert shown.value("performance.getEntriesByType('resource').map(entry => entry.name)") == []
        assert shown.value("document.querySelectorAll('img, iframe, object').length") == 0
        assert shown.said == []

    def test_bars_have_height_and_times_are_dates(self, shown: Tab) -> None:
        """Bars that are drawn as hair lines, and an axis on which all times coincide, have both happened."""
        heights = shown.value("""['input-tokens', 'hours'].map(key => Math.max(...[...document.querySelectorAll(
            `[data-chart=${key}] svg .mark-rect path`)].map(path => path.getBBox().height)))""")
        assert all(height > 50 for height in heights), heights
        labels = "[...document.querySelectorAll('[data-chart=rate] svg .role-axis-label text')].map(t => t.textContent)"
        assert len({t for t in shown.value(labels) if re.fullmatch(r"\d\d \w{3}", t)}) >= 5
        width = "document.querySelector('[data-chart=rate] svg .mark-line path').getBBox().width"
        assert shown.value(width) > 250

    def test_a_click_on_a_head_sorts_the_comparison(self, shown: Tab) -> None:
        sorts = """(() => { const head = [...document.querySelectorAll('#fidelity-table th[data-column]')].find(
            h => h.textContent.startsWith('Distance')); head.querySelector('button').click();
            const rows = [...document.querySelector('#fidelity-table').tBodies[0].rows];
            return rows.map(r => r.cells[head.dataset.column].dataset.sort) })()"""
        known = [float(v) for v in shown.value(sorts) if v]
        assert known == sorted(known)
        assert len(set(known)) > 5

    def test_the_data_table_holds_every_row(self, shown: Tab) -> None:
        shown.value("document.querySelector('details[data-rows=hours]').open = true")
        time.sleep(0.3)
        assert shown.value("document.querySelectorAll('details[data-rows=hours] tbody tr').length") == 24

    def test_a_phone_scrolls_down_only(self, page: Path, tab: Tab) -> None:  # noqa: F811
        tab.open(page, 390, "dark")
        assert tab.value("document.documentElement.scrollWidth") <= 390
        too_wide = tab.value("""[...document.querySelectorAll('[data-chart]')].filter(place =>
            Number(place.querySelector('svg').getAttribute('width')) > place.closest('[data-room]').clientWidth
        ).map(place => place.dataset.chart)""")
        assert too_wide == []
