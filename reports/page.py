"""Writes report.html from results.duckdb, study.yaml and manifest.json: one file, offline. It arranges and computes nothing."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reports.page_frame import chart_library, rendered, script_json
from reports.scene import Scene

if TYPE_CHECKING:
    import duckdb
    import polars as pl
    from markupsafe import Markup

    from reports.charts.figure import Figure

NAV = {
    "comebacks": "Who comes back",
    "cures": "Collapse and cure",
    "timelines": "Timelines",
    "normal_day": "Normal day",
    "answer_times": "Answer times",
    "shares": "Load per replica",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with its charts: alternatives under tabs, one legend, one specification for all."""

    key: str
    title: str
    nav: str
    figures: list[dict[str, Any]]
    spec: "Markup"
    legend: list[Any]
    legend_of: str
    tabs_of: str


def build_page(run: Path) -> Path:
    """Writes `run`/report.html aside, renames it when whole, and returns its path.

    Raises ValueError in one line when results.duckdb or study.yaml is missing or cannot be read.
    """
    from reports.read_scene import open_results, read_scene

    study, manifest = _mapping(run / "study.yaml"), _mapping(run / "manifest.json")
    results = run / "results.duckdb"
    if not results.is_file():
        raise ValueError(f"{results}: missing; allowed: the tables that `stampede report` builds")
    with ThreadPoolExecutor(1) as aside_thread, open_results(results) as con:
        library = aside_thread.submit(chart_library)
        scene = read_scene(con, study)
        text = rendered("report.html.jinja", _content(con, scene, study, manifest, run / "workloads"), library.result())
    target = run / "report.html"
    aside = run / f".report-{os.getpid()}.html"
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return target


def _mapping(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: missing; allowed: the file that the run wrote")
    try:
        content = yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: a {type(content).__name__}; allowed: a mapping")
    return content


def _content(
    con: "duckdb.DuckDBPyConnection", scene: Scene, study: dict[str, Any], manifest: dict[str, Any], workloads: Path
) -> dict[str, Any]:
    """Everything the template shows."""
    from reports import caveats, sentences
    from reports import leaderboard as board
    from reports import provenance as origin
    from reports.event_tables import arm_table, event_table
    from reports.fidelity_part import fidelity_part
    from reports.html_tables import certificate_table, load_table, normal_table, stampede_table
    from reports.pool_events import event_hits, missed
    from reports.protocol import TARGET_SUCCESS
    from reports.read_scene import names

    normal, stampede = board.normal_day_rows(con, scene), board.stampede_rows(con, scene)
    runs = board.certificates(con)
    void, lost = sum(bool(r["void"]) for r in runs), sum(not r["conserved"] for r in runs)
    planned = (manifest.get("cells") or {}).get("total")
    hits, sections = event_hits(con), _sections(con, scene)
    tables = [normal_table(scene, normal, c.key) for c in scene.conditions if any(r.condition == c.key for r in normal)]
    return {
        "scene": scene,
        "verdict": sentences.verdict(scene, normal, stampede),
        "incomplete": caveats.incomplete(scene, names(study.get("routers")), planned, len(runs)),
        "notes": [*filter(None, [caveats.slo_bound(manifest.get("capacity"), scene.slo)]), *caveats.event_notes(scene),
                  *caveats.warnings(scene, stampede, void, lost, len(runs))],
        "target_success": f"{TARGET_SUCCESS:.0%}",
        "facts": origin.headline(scene, study, manifest),
        "contents": [("leaderboard", "Leaderboard"), *([("pool-events", "Pool events")] if scene.events else []),
                     *((s.key, s.nav) for s in sections),
                     ("certificates", "Load delivered?"), ("provenance", "Provenance"), ("method", "Method")],
        "stampede_table": stampede_table(scene, stampede),
        "normal_tables": tables,
        "event_table": event_table(scene, hits, missed(con)),
        "event_arm_table": arm_table(scene, hits),
        "chart_sections": sections,
        "delivered": caveats.delivered(void, lost, runs),
        "load_table": load_table(board.phase_loads(con)),
        "certificate_table": certificate_table(scene, runs),
        "provenance": origin.blocks(scene, study, manifest, origin.read_making(workloads)),
        "fidelity": fidelity_part(manifest.get("fidelity")),
        "again": origin.again(study, manifest),
    }  # fmt: skip


def _sections(con: "duckdb.DuckDBPyConnection", scene: Scene) -> list[Section]:
    """The charts, each kind under one heading; a kind without figures is left out."""
    from reports.charts import CHARTS

    sections = []
    for name, draw in CHARTS.items():
        figures = draw(con, scene)
        if not figures:
            continue
        by_router = figures[0].by_router
        sections.append(
            Section(
                key=name.replace("_", "-"),
                title=figures[0].title,
                nav=NAV.get(name, figures[0].title),
                figures=[chart_data(f) for f in figures],
                spec=spec_of(figures[0]),
                legend=list(scene.routers if by_router else scene.conditions),
                legend_of="Routers" if by_router else "Clients and guards",
                tabs_of="client and guard" if by_router else "router",
            )
        )
    return sections


def chart_data(figure: "Figure") -> dict[str, Any]:
    """A figure as the template shows it: words, data by column with the table's headings. Its spec is shared, see `Section`."""
    fit = {"columns": figure.fit.columns, "min_px": figure.fit.min_px, "side_px": figure.fit.side_px}
    datasets = {name: columns(frame) for name, frame in figure.data.items()}
    return {
        "key": figure.key,
        "title": figure.title,
        "tab": figure.tab,
        "caption": figure.caption,
        "rows": figure.data["rows"].height,
        "json": script_json({"datasets": datasets, "fit": fit, "columns": figure.columns}),
    }


def spec_of(figure: "Figure") -> "Markup":
    """The specification without data and configuration, which the page holds apart."""
    spec = figure.chart.to_dict()
    return script_json({k: v for k, v in spec.items() if k not in ("config", "$schema", "datasets")})


def columns(frame: "pl.DataFrame") -> dict[str, list[Any]]:
    """A frame by column, numbers in 5 significant digits: a third of the size of rows."""
    return {name: [_short(value) for value in frame[name].to_list()] for name in frame.columns}


def _short(value: Any) -> Any:
    if isinstance(value, float):
        short = float(f"{value:.5g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value
