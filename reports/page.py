"""Writes report.html from results.duckdb, study.yaml and manifest.json: one file, offline. It arranges and computes nothing."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from reports.page_frame import chart_library, rendered, write_page
from reports.scene import Scene

if TYPE_CHECKING:
    import duckdb

    from reports.parts import Part


def build_page(run: Path) -> Path:
    """Writes `run`/report.html aside, renames it when whole, and returns its path.

    Raises ValueError in one line when results.duckdb or study.yaml is missing or cannot be read.
    """
    from reports.read_scene import open_results, read_scenes

    study, manifest = read_mapping(run / "study.yaml"), read_mapping(run / "manifest.json")
    results = run / "results.duckdb"
    if not results.is_file():
        raise ValueError(f"{results}: missing; allowed: the tables that `stampede report` builds")
    with ThreadPoolExecutor(1) as aside_thread, open_results(results) as con:
        library = aside_thread.submit(chart_library)
        scenes = read_scenes(con, study)
        text = rendered("report.html.jinja", _content(con, scenes, study, manifest, run / "workloads"), library.result())
    return write_page(text, run / "report.html")


def read_mapping(file: Path) -> dict[str, Any]:
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
    con: "duckdb.DuckDBPyConnection",
    scenes: tuple[Scene, ...],
    study: dict[str, Any],
    manifest: dict[str, Any],
    workloads: Path,
) -> dict[str, Any]:
    """Everything the template shows."""
    from reports import caveats
    from reports import provenance as origin
    from reports.certificate_tables import certificate_table
    from reports.fidelity_part import fidelity_part
    from reports.live_words import looked_at, self_test_sentence
    from reports.parts import build_part
    from reports.protocol import TARGET_SUCCESS
    from reports.read_scene import router_names

    parts = [build_part(con, scene, alone=len(scenes) == 1) for scene in scenes]
    runs = list(chain.from_iterable(part.runs for part in parts))
    void, lost = sum(part.void for part in parts), sum(part.lost for part in parts)
    planned = (manifest.get("cells") or {}).get("total")
    measured = list(chain.from_iterable(part.runs for part in parts if part.scene.pool.live))
    return {
        "scene": scenes[0],
        "parts": parts,
        "references": list({r.key: r for scene in scenes for r in scene.references}.values()),
        "conditions": [c for scene in scenes for c in scene.conditions],
        "verdicts": [(part.heading, part.verdict) for part in parts if part.scene.pool.twin_of is None],
        "incomplete": caveats.incomplete(scenes, router_names(study.get("routers")), planned, len(runs)),
        "notes": _notes(parts, manifest),
        "target_success": f"{TARGET_SUCCESS:.0%}",
        "facts": origin.headline(scenes, study, manifest),
        "contents": [*_contents(parts), ("certificates", "Load delivered?"), ("provenance", "Provenance"), ("method", "Method")],
        "delivered": caveats.delivered(void, lost, runs),
        "measured": [text for text in (looked_at(measured), self_test_sentence(manifest.get("self_test"))) if text],
        "live": bool(measured),
        "load_tables": _load_tables(parts),
        "certificate_table": certificate_table([(part.scene, part.runs) for part in parts]),
        "provenance": origin.blocks(scenes, study, manifest, origin.read_making(workloads)),
        "fidelity": fidelity_part(manifest.get("fidelity")),
        "again": origin.again(study, manifest),
    }


def _notes(parts: "list[Part]", manifest: dict[str, Any]) -> list[str]:
    """What to know before believing the numbers; of which pool, where there are several."""
    from reports.caveats import slo_bound
    from reports.live_words import self_test_warning

    first = [slo_bound(manifest.get("capacity"), parts[0].scene.slo), self_test_warning(manifest.get("self_test"))]
    told: dict[str, list[str]] = {}
    for part in parts:
        for note in part.notes:
            told.setdefault(note, []).append(part.heading or "")
    everywhere = [note if len(where) == len(parts) else f"{', '.join(where)}: {note}" for note, where in told.items()]
    return [*filter(None, first), *everywhere]


def _contents(parts: "list[Part]") -> list[tuple[str, str]]:
    """The headings of a page's only part, else a line a part."""
    if len(parts) == 1:
        return parts[0].contents
    return [(f"{part.prefix}part", part.scene.pool.words) for part in parts]


def _load_tables(parts: "list[Part]") -> list[Any]:
    """Planned and realised load of each pool."""
    from dataclasses import replace

    from reports.certificate_tables import load_table

    tables = []
    for part in parts:
        table = load_table(part.loads)
        caption = f"{part.heading}. {table.caption}" if part.heading else table.caption
        tables.append(replace(table, key=part.prefix + table.key, caption=caption))
    return tables
