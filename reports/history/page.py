"""Writes the page of a folder of runs: one file, offline. It arranges and computes nothing."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.history.metrics import FOLLOWED
from reports.history.nights import Skipped, dates
from reports.history.tables import index_of, shift_table
from reports.history.trends import History, by_arm
from reports.history.words import ENOUGH, arm_words, noise_sentence, titles, verdict, void_note
from reports.html_tables import Table
from reports.page_frame import TEMPLATES, chart_library, rendered, write_page
from reports.sentences import counted, listed

if TYPE_CHECKING:
    from markupsafe import Markup

OPEN = 4
"""Arms without any change whose trends are shown unfolded; those with one always are."""


@dataclass(frozen=True, slots=True)
class ArmTrends:
    title: str
    figure: dict[str, Any]
    unfolded: bool


@dataclass(frozen=True, slots=True)
class Part:
    """One history: its words, tables and trends; `spec` is what its charts share."""

    key: str
    title: str
    nav: str
    sentences: list[str]
    noise: str
    tables: list[Table]
    arms: list[ArmTrends]
    spec: "Markup"


def build_history_page(histories: Sequence[History], skipped: Sequence[Skipped], out: Path, *, title: str, since: int) -> Path:
    """Writes `out` aside, renames it when whole, and returns it. `since`: how many of the last nights are news.

    Raises OSError where `out` cannot be written.
    """
    with ThreadPoolExecutor(1) as aside_thread:
        library = aside_thread.submit(chart_library)
        content = _content(histories, skipped, out, title, since)
        text = rendered("history.html.jinja", content, library.result(), (TEMPLATES / "history.css").read_text(encoding="utf-8"))
    return write_page(text, out)


def _content(histories: Sequence[History], skipped: Sequence[Skipped], out: Path, title: str, since: int) -> dict[str, Any]:
    called = titles(histories)
    parts = [_part(history, f"history-{i}", called[i], since) for i, history in enumerate(histories)]
    nights = sorted((n for h in histories for n in h.nights), key=lambda n: (n.started_utc, n.run.name))
    single = len(parts) == 1
    lead = parts[0].sentences if single else [f"{p.title}: {_lower(p.sentences[0])}" for p in parts]
    void = [(part.title, void_note(history)) for part, history in zip(parts, histories, strict=True)]
    notes = [note if single else f"{name}: {note}" for name, note in void if note]
    if skipped:
        left_out = f"{s.run.name} ({s.why})" if len(skipped) == 1 and (s := skipped[0]) else listed([s.run.name for s in skipped])
        notes.append(f"{counted(len(skipped), 'folder')} could not be read and {_was(len(skipped))} left out: {left_out}.")
    days = dates(nights)
    return {
        "title": title,
        "verdict": lead,
        "notes": notes,
        "facts": f"{counted(len(nights), 'run')} from {days[0]} to {days[-1]} · {_arm_count(histories)} ·"
        f" {sum(len(h.trends) for h in histories):,} figures followed · news of the last {counted(since, 'night')}",
        "contents": [*((p.key, p.nav) for p in parts), ("runs", "All runs"), ("method", "How to read this")],
        "parts": parts,
        "single": single,
        "runs": index_of(nights, skipped, out),
        "enough": ENOUGH,
    }


def _lower(sentence: str) -> str:
    return f"n{sentence[1:]}" if sentence.startswith("Nothing") else sentence


def _was(n: int) -> str:
    return "was" if n == 1 else "were"


def _arm_count(histories: Sequence[History]) -> str:
    return counted(sum(len({t.arm for t in h.trends}) for h in histories), "arm")


def _part(history: History, key: str, title: str, since: int) -> Part:
    from reports.history.chart import trend_chart, trend_figure
    from reports.parts import chart_data, spec_of

    metrics = [m for m in FOLLOWED if any(t.metric == m and any(_drawn(f) for f in t.figures) for t in history.trends)]
    chart = trend_chart(history, metrics)
    grouped = by_arm(history.trends)
    changed = {s.arm for s in history.shifts}
    arms, spec = [], None
    worse = {s.arm for s in history.shifts if s.worse and s.stands}
    ordered = sorted(grouped.items(), key=lambda item: (item[0] not in worse, item[0] not in changed, item[0]))
    for i, (arm, trends) in enumerate(ordered):
        name = arm_words(arm, list(grouped))
        figure = trend_figure(history, arm, trends, chart, f"{key}-trend-{i}", name)
        spec = spec or spec_of(figure)
        arms.append(ArmTrends(name, chart_data(figure), arm in changed or i < OPEN))
    if spec is None:
        raise ValueError(f"{history.nights[-1].run}: table arms is empty: there is nothing to follow")
    tables = [shift_table(history, f"{key}-{name}", worse) for name, worse in (("worse", True), ("better", False))]
    return Part(
        key=key,
        title=title,
        nav=history.nights[-1].study or title,
        sentences=verdict(history, since),
        noise=noise_sentence(history),
        tables=[table for table in tables if table is not None],
        arms=arms,
        spec=spec,
    )


def _drawn(figure: Any) -> bool:
    return figure is not None and (figure.mean is not None or figure.censored)
