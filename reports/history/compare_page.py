"""Writes the page of runs side by side: one file, offline. It arranges and computes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.history.compare_words import arms_of, settings_sentence, told, value_words
from reports.history.differences import Comparison, FigureDifference
from reports.history.words import arm_words, limits_words, size_words
from reports.html_tables import Cell, Column, Row, Table, words
from reports.page_frame import TEMPLATES, rendered, write_page
from reports.sentences import counted

TESTS = {"paired": "paired t, {} seeds", "welch": "Welch’s t, {} seeds", "fisher": "Fisher, {} seeds"}


@dataclass(frozen=True, slots=True)
class Part:
    key: str
    title: str
    sentences: list[str]
    figures: Table
    verdicts: Table | None
    missing: tuple[str, ...]
    settings_words: str
    settings: Table | None


def build_compare_page(comparisons: Sequence[Comparison], out: Path) -> Path:
    """Writes `out` aside, renames it when whole, and returns it; OSError where it cannot be written."""
    base = comparisons[0].base
    parts = [_part(c, f"compared-{i}") for i, c in enumerate(comparisons)]
    sides = [base, *(c.other for c in comparisons)]
    content: dict[str, Any] = {
        "title": " against ".join([" and ".join(c.other.name for c in comparisons), base.name]),
        "verdict": parts[0].sentences if len(parts) == 1 else [p.sentences[0] for p in parts],
        "facts": " · ".join(f"{s.name}: {s.started_utc[:16].replace('T', ' ')} UTC, {counted(s.cells, 'cell')}" for s in sides),
        "contents": [*((p.key, p.title) for p in parts), ("method", "How to read this")],
        "parts": parts,
        "single": len(parts) == 1,
    }
    css = (TEMPLATES / "history.css").read_text(encoding="utf-8")
    return write_page(rendered("compare.html.jinja", content, "", css), out)  # no chart on it, so no chart library


def _part(comparison: Comparison, key: str) -> Part:
    return Part(
        key=key,
        title=f"{comparison.other.name} against {comparison.base.name}",
        sentences=told(comparison),
        figures=_figures(comparison, f"{key}-figures"),
        verdicts=_verdicts(comparison, f"{key}-verdicts"),
        missing=comparison.missing,
        settings_words=settings_sentence(comparison),
        settings=_settings(comparison, f"{key}-settings"),
    )


def _figures(comparison: Comparison, key: str) -> Table:
    columns = [
        Column("Router", text=True),
        Column("Metric", text=True),
        Column("Change"),
        Column("95% interval"),
        Column(comparison.base.name),
        Column(comparison.other.name),
        Column("What it is", text=True, hint="sure: p ≤ 5% after Holm over all figures; likely: by its own p alone"),
        Column("p (Holm)"),
        Column("Test", text=True),
        Column("Guard", text=True),
        Column("Client", text=True),
    ]
    rows = [Row(_cells(f, comparison)) for f in comparison.figures]
    caption = f"Every figure that both runs have: {comparison.other.name} against {comparison.base.name}; the surest first."
    return Table(key, caption, columns, rows)


def _cells(found: FigureDifference, comparison: Comparison) -> list[Cell]:
    metric, (router, guard, client, pool) = found.metric, found.arm
    several = len({arm[3] for arm in arms_of(comparison)}) > 1
    if found.size == 0:
        change = "equal"
    elif found.size is None and found.censored[0] == found.censored[1]:
        change = "–"
    else:
        change = size_words(metric, found.size)
    means = [
        Cell(value_words(metric, value, n), "" if value is None else repr(value))
        for value, n in ((found.old, found.censored[0]), (found.new, found.censored[1]))
    ]
    way = "worse" if found.worse else "better"
    what, tag = (f"{way}, {found.grade}", _tag(found)) if found.grade else ("no evidence", "")
    limits = limits_words(metric, found.low, found.high) if found.size else "–"
    return [
        words(f"{router} on {pool}" if several else router),
        words(metric.words),
        Cell(change, repr(1e300 if found.size is None else found.size)),
        Cell(limits, "" if found.low is None else repr(found.low)),
        *means,
        Cell(what, f"{('sure', 'likely', '').index(found.grade)} {way}", css="text", tag=tag),
        Cell("–", "") if found.p is None else Cell(f"{found.p_holm:.2g}", repr(found.p_holm)),
        words(TESTS[found.test].format(found.n)),
        words(guard),
        words(client),
    ]


def _tag(found: FigureDifference) -> str:
    if not found.worse:
        return "good"
    return "bad" if found.grade == "sure" else "warn"


def _verdicts(comparison: Comparison, key: str) -> Table | None:
    if not comparison.verdicts:
        return None
    arms = arms_of(comparison)
    columns = [
        Column("Arm", text=True),
        Column(f"Back in {comparison.base.name}"),
        Column(f"Back in {comparison.other.name}"),
        Column("p (Fisher)"),
        Column(f"Verdicts in {comparison.base.name}", text=True),
        Column(f"Verdicts in {comparison.other.name}", text=True),
    ]
    rows = [
        Row(
            [
                words(arm_words(v.arm, arms)),
                *(Cell(f"{back} of {runs}", repr(back / runs)) for back, runs in (v.old, v.new)),
                Cell(f"{v.p:.2g}", repr(v.p)),
                words(v.words[0]),
                words(v.words[1]),
            ]
        )
        for v in comparison.verdicts
    ]
    return Table(key, "Arms whose verdicts changed: how many runs came back after the trigger.", columns, rows)


def _settings(comparison: Comparison, key: str) -> Table | None:
    if not comparison.settings:
        return None
    columns = [Column("Setting", text=True), Column(comparison.base.name, text=True), Column(comparison.other.name, text=True)]
    rows = [
        Row([words(name), words(old or "–", "text why"), words(new or "–", "text why")]) for name, old, new in comparison.settings
    ]
    return Table(key, "What differs between the two runs’ studies and manifests.", columns, rows)
