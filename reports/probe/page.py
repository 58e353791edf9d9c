"""Writes a probe's report.html from results.duckdb, study.yaml and manifest.json: one file, offline. It computes nothing."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.page import read_mapping
from reports.page_frame import TEMPLATES, chart_library, rendered, script_json, write_page
from reports.parts import chart_data, spec_of
from reports.probe.scene import ProbeScene, scene_of

if TYPE_CHECKING:
    import duckdb

    from reports.charts.figure import Figure
    from reports.html_tables import Table

SECTIONS: tuple[tuple[str, str, str], ...] = (
    ("frontier", "The map: how large a burst is survived", "Map"),
    ("recovery-map", "How likely it comes back", "Recovery probability"),
    ("cures", "What to put in front of it", "Recommendation"),
    ("loops", "Hysteresis: does it come down the way it went up?", "Hysteresis"),
    ("comeback-times", "How long it takes to come back", "Time to come back"),
    ("portraits", "The stuck state, seen", "Stuck state"),
    ("before-after", "Before and after the cure", "Before and after"),
    ("causes", "Why it stays down", "Causes"),
    ("pulses", "Every kind of trigger", "Triggers"),
    ("capacities", "Advertised and hidden capacity", "Capacity"),
    ("calm", "Is the detector to be trusted?", "False alarms"),
    ("drain", "Does it come back without any load?", "Drain"),
)
NOTHING = {
    "frontier": ("frontier", ""),
    "recovery-map": ("frontier", ""),
    "cures": ("cure", "the search for guard sets was broken off before it was complete"),
    "loops": ("staircase", "no staircase was complete"),
    "comeback-times": ("pulse", "no trigger was judged"),
    "portraits": ("frontier", "no arm has both a burst that kept it down and a smaller one that it came back from"),
    "before-after": ("cure", "no recommended guard set has a run that stays down without it and comes back with it"),
    "causes": ("attribution", "no arm’s attribution was complete"),
    "pulses": ("pulse", "no trigger was judged"),
    "capacities": ("capacity", "no capacity search was complete"),
    "calm": ("placebo", "no calm run was judged"),
}
"""The phase that a section needs, and what it means that the phase was asked for and the section is empty all the same."""


@dataclass(frozen=True, slots=True)
class Part:
    """One heading: sentences, charts (alternatives under tabs, one legend), tables beside them and folded ones."""

    key: str
    title: str
    nav: str
    said: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    legend: list[Any] = field(default_factory=list)
    legend_of: str = ""
    tabs_of: str = ""
    tables: "list[Table]" = field(default_factory=list)
    folded: "list[tuple[str, Table]]" = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.said or self.figures or self.tables or self.folded)


def build_probe_page(run: Path) -> Path:
    """Writes `run`/report.html aside, renames it when whole, and returns its path.

    Raises ValueError in one line when results.duckdb, study.yaml or manifest.json is missing or cannot be read.
    """
    from reports.probe.tables import read_answers, read_findings
    from reports.read_scene import open_results

    study, manifest = read_mapping(run / "study.yaml"), read_mapping(run / "manifest.json")
    results = run / "results.duckdb"
    if not results.is_file():
        raise ValueError(f"{results}: missing; allowed: the tables that `stampede probe` writes")
    with ThreadPoolExecutor(1) as aside_thread, open_results(results) as con:
        library = aside_thread.submit(chart_library)
        scene = scene_of(read_findings(con), read_answers(con), study)
        css = (TEMPLATES / "probe.css").read_text(encoding="utf-8")
        text = rendered("probe.html.jinja", _content(con, scene, study, manifest), library.result(), css)
    return write_page(text, run / "report.html")


def _content(
    con: "duckdb.DuckDBPyConnection", scene: ProbeScene, study: dict[str, Any], manifest: dict[str, Any]
) -> dict[str, Any]:
    """Everything the template shows."""
    from reports.probe import origin, sentences
    from reports.probe.cell_tables import CELL_COLUMNS, cell_list, not_run, verdict_table

    parts = [part for part in _parts(con, scene) if not part.empty]
    return {
        "scene": scene,
        "verdict": sentences.verdict(scene),
        "notes": origin.notes(scene, study, manifest),
        "rests_on": sentences.rests_on(scene),
        "facts": origin.headline(scene, study, manifest),
        "contents": [
            *((p.key, p.nav) for p in parts),
            ("method", "Method"),
            ("provenance", "Provenance"),
            ("cells", "All cells"),
        ],
        "parts": parts,
        "left_out": [*not_run(scene), *_left_out(scene, {p.key for p in parts})],
        "verdict_table": verdict_table(scene),
        "cell_count": len(scene.cells),
        "cells_json": script_json({"columns": CELL_COLUMNS, "datasets": {"rows": cell_list(scene)}}),
        "provenance": origin.blocks(scene, study, manifest),
        "again": origin.again(manifest),
    }


def _left_out(scene: ProbeScene, shown: set[str]) -> list[str]:
    """One line for each section that is missing though its phase was asked for."""
    said = []
    for key, title, _ in SECTIONS:
        phase, why = NOTHING.get(key, ("", ""))
        if key not in shown and why and scene.asked(phase):
            said.append(f"“{title}” is left out: {why}.")
    return said


def _parts(con: "duckdb.DuckDBPyConnection", scene: ProbeScene) -> list[Part]:
    """All sections in the page's order, empty ones too."""
    from reports.probe.charts import CHARTS

    said, shown, folded = _said(scene), _shown(scene), _folded(scene)
    parts = []
    for key, title, nav in SECTIONS:
        draw = CHARTS.get(key.replace("-", "_"))
        figures = draw(con, scene) if draw else []
        by_router = figures[0].by_router if figures else True
        own = [t for t in shown.get(key, []) if t is not None and t.rows]
        parts.append(
            Part(
                key=key,
                title=title,
                nav=nav,
                said=said.get(key, []),
                figures=_drawn(figures),
                legend=_legend(scene, key, by_router) if figures else [],
                legend_of="Routers" if by_router else "Guard sets",
                tabs_of=TABS.get(key, "guard set"),
                tables=own,
                folded=[(head, table) for head, make in folded.get(key, []) if (table := make()) and table.rows],
            )
        )
    return parts


def _said(scene: ProbeScene) -> dict[str, list[str]]:
    """Sentences by section."""
    from reports.probe import sentences

    return {
        "cures": sentences.recommendation(scene),
        "calm": [f"{_sentence(sentences.false_alarms(scene))}."] if scene.asked("placebo") else [],
        "drain": sentences.drained(scene),
    }


def _shown(scene: ProbeScene) -> dict[str, "list[Table | None]"]:
    """Tables that stand open, by section."""
    from reports.probe import cell_tables
    from reports.probe import page_tables as tables

    wanted = _wanted(scene)
    recommended = [c for c in scene.findings.cures if c.recommended]
    cure_tables = [tables.cure_table(scene, recommended, "cure-table", f"The cheapest guard set for {wanted}, a router a row.")]
    return {
        "frontier": [tables.frontier_table(scene)],
        "cures": [*cure_tables] if recommended else [],
        "loops": [tables.hysteresis_table(scene)],
        "causes": [tables.cause_table(scene)],
        "pulses": [tables.pulse_table(scene, scene.findings.pulses)],
        "capacities": [],
        "calm": [cell_tables.placebo_table(scene, mapped=True)],
    }


def _folded(scene: ProbeScene) -> "dict[str, list[tuple[str, Callable[[], Table | None]]]]":
    """Tables that are opened on demand, by section."""
    from reports.probe import cell_tables
    from reports.probe import page_tables as tables

    wanted = _wanted(scene)
    every_cure = tables.cure_table(scene, scene.findings.cures, "cures-table", f"Every guard set tried against {wanted}.")
    return {
        "frontier": [("The runs behind each point", lambda: tables.tries_table(scene))],
        "cures": [("Every guard set that was tried", lambda: every_cure)],
        "loops": [("The runs behind each staircase", lambda: tables.loop_proof(scene))],
        "causes": [("Every loop that was taken away", lambda: tables.loop_table(scene))],
        "capacities": [("The loads and the runs behind them", lambda: tables.capacity_table(scene))],
        "calm": [("Guard sets that were only tried as cures", lambda: cell_tables.placebo_table(scene, mapped=False))],
        "pulses": [("The runs behind each trigger", lambda: tables.pulse_proof(scene))],
    }


def _wanted(scene: ProbeScene) -> str:
    return f"a {scene.wanted[1]:g}× burst at {scene.wanted[0]:.0%} load" if scene.wanted else "the wanted burst"


def _drawn(figures: "list[Figure]") -> list[dict[str, Any]]:
    """Figures as the template shows them; the first of those that share a chart brings its specification."""
    first: dict[int, str] = {}
    drawn = []
    for f in figures:
        known = first.setdefault(id(f.chart), f.key)
        drawn.append({**chart_data(f), "spec_key": known, "spec": spec_of(f) if known == f.key else ""})
    return drawn


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


TABS = {"frontier": "burst", "comeback-times": "load"}


def _legend(scene: ProbeScene, key: str, by_router: bool) -> list[Any]:
    """What the charts' colours mean, as buttons; charts without series have none."""
    if key in ("recovery-map", "portraits"):
        return []
    if by_router:
        return list(scene.routers)
    if key == "before-after":
        from reports.probe.charts.chosen_runs import before_and_after

        found = before_and_after(scene)
        return [scene.guards[0], scene.guard(found[0])] if found else []
    return [g for g in scene.guards if any(h.arm[1] == g.label for h in scene.findings.hysteresis)]
