"""Writes a trace's page from its description: one file, offline. It arranges and computes nothing."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports import trace_sentences as sentences
from reports import trace_tables as tables
from reports.html_tables import Table
from reports.page_frame import TEMPLATES, chart_library, rendered, write_page
from reports.parts import chart_data, spec_of
from reports.provenance import trace_block

SECTIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("arrivals", "When it comes", "Arrivals", ("rate", "dispersion", "hours")),
    ("lengths", "How long it is", "Lengths", ("input_lengths", "output_lengths")),
    ("sessions", "How sessions go on", "Sessions", ("turn_counts", "think_times")),
    ("reuse", "What is shared", "Reuse", ("cache_size", "tenants")),
)
NARROW = 3
"""Columns up to which a table stands beside the charts."""


@dataclass(frozen=True, slots=True)
class Part:
    """One heading of the page: charts, a sentence for each that is left out, tables that stand beside charts and wide ones."""

    key: str
    title: str
    nav: str
    figures: list[dict[str, Any]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    narrow: list[Table] = field(default_factory=list)
    wide: list[Table] = field(default_factory=list)


def build_trace_page(
    description: Mapping[str, Any], out: Path, *, fidelity: Sequence[Mapping[str, Any]] | None = None, title: str = ""
) -> Path:
    """Writes `out` aside, renames it when whole, and returns it.

    `description` is that of `workloads.description.describe`, `fidelity` the rows of `workloads.fidelity.fidelity`, both as plain
    data. Raises OSError where `out` cannot be written.
    """
    with ThreadPoolExecutor(1) as aside_thread:
        library = aside_thread.submit(chart_library)
        content = _content(description, fidelity, title)
        text = rendered("trace.html.jinja", content, library.result(), (TEMPLATES / "trace.css").read_text(encoding="utf-8"))
    return write_page(text, out)


def _content(description: Mapping[str, Any], fidelity: Sequence[Mapping[str, Any]] | None, title: str) -> dict[str, Any]:
    """Everything the template shows."""
    parts = _parts(description)
    rows = [dict(r) for r in fidelity or ()]
    compared = [("fidelity", "Fidelity")] if rows else []
    return {
        "title": title or f"The trace {description['source']}",
        "verdict": sentences.verdict(description),
        "notes": sentences.notes(description),
        "facts": sentences.headline(description),
        "contents": [
            *((p.key, p.nav) for p in parts),
            *compared,
            ("origin", "Where it comes from"),
            ("method", "How to read this"),
        ],
        "parts": parts,
        "fidelity": tables.fidelity_table(rows) if rows else None,
        "fidelity_verdict": sentences.fidelity_verdict(rows),
        "origin": trace_block(dict(description["provenance"])),
        "published": tables.published_table(description),
    }


def _parts(description: Mapping[str, Any]) -> list[Part]:
    from reports.trace_charts import TRACE_CHARTS

    own: dict[str, list[Table | None]] = {
        "arrivals": [tables.arrival_table(description)],
        "lengths": [tables.spread_table(description)],
        "sessions": [
            tables.names_table(description, "languages", "Language"),
            tables.names_table(description, "models", "Model"),
        ],
        "reuse": [tables.reuse_table(description)],
    }
    parts = []
    for key, title, nav, names in SECTIONS:
        drawn = [TRACE_CHARTS[name](description) for name in names]
        figures = [{**chart_data(d), "spec": spec_of(d)} for d in drawn if not isinstance(d, str)]
        missing = list(dict.fromkeys(d for d in drawn if isinstance(d, str)))
        found = [t for t in own[key] if t is not None]
        narrow = [t for t in found if len(t.columns) <= NARROW]
        parts.append(Part(key, title, nav, figures, missing, narrow, [t for t in found if t not in narrow]))
    return parts
