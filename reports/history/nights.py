"""The runs of a folder as nights in order of time, with what each says of its arms. It judges nothing."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.history.metrics import FOLLOWED, Metric

ArmKey = tuple[str, str, str, str]
"""(router, guard, client, pool) by label."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An arm's metric in one night: mean over seeds with its 95% interval. `censored`: beyond all that was seen (no mean)."""

    mean: float | None
    low: float | None
    high: float | None
    censored: bool = False


@dataclass(frozen=True)
class Night:
    """One finished run. `kind` is what runs must share to be compared: study, workload, load, trigger and SLO by content."""

    run: Path
    started_utc: str
    study: str
    kind: str
    commit: str | None
    code: str
    void: int
    cells: int
    figures: dict[tuple[ArmKey, Metric], Figure] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A folder that looks like a run and is none that can be read, and why."""

    run: Path
    why: str


def read_nights(folder: Path) -> tuple[list[Night], list[Skipped]]:
    """The runs in `folder`, oldest first, and what was left out; ValueError when there is no readable run."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; allowed: a folder of run folders")
    nights, skipped = [], []
    for run in sorted(path.parent for path in folder.glob("*/study.yaml")):
        try:
            nights.append(read_night(run))
        except ValueError as error:
            skipped.append(Skipped(run, str(error)))
    if not nights:
        reasons = f" ({skipped[0].why})" if skipped else ""
        raise ValueError(f"{folder}: no finished run{reasons}; allowed: a folder whose subfolders are runs with results.duckdb")
    return sorted(nights, key=lambda night: (night.started_utc, night.run.name)), skipped


def read_night(run: Path) -> Night:
    """One run's figures; ValueError in one line when its files are missing or cannot be read."""
    import duckdb
    import yaml

    results = run / "results.duckdb"
    if not results.is_file():
        raise ValueError(f"{run}: results.duckdb is missing; allowed: a finished run, or one rebuilt with `stampede report`")
    try:
        study = yaml.safe_load((run / "study.yaml").read_text(encoding="utf-8"))
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        with duckdb.connect(str(results), read_only=True) as con:
            figures = _figures(con)
            cells, void = con.execute("SELECT count(*), count(*) FILTER (void) FROM certificates").fetchone() or (0, 0)
    except (OSError, ValueError, yaml.YAMLError, duckdb.Error) as error:
        raise ValueError(f"{run}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    return Night(
        run=run,
        started_utc=str(manifest.get("started_utc", "")),
        study=str(study.get("name", "")),
        kind=kind_of(study),
        commit=manifest.get("commit"),
        code=str(manifest.get("code_hash", "")),
        void=int(void),
        cells=int(cells),
        figures=figures,
    )


def kind_of(study: dict[str, Any]) -> str:
    """What must be equal for two nights to be of one history, as canonical JSON: the same question, asked again.

    Seeds, routers, guards and clients may differ (arms are matched by label), the trace's file may be a newer one of one name.
    """
    keys = ("name", "load", "phases", "trigger", "events", "slo", "session", "observation")
    workload = {key: value for key, value in (study.get("workload") or {}).items() if key not in ("trace", "source", "columns")}
    return json.dumps({**{key: study.get(key) for key in keys}, "workload": workload}, sort_keys=True)


def _figures(con: Any) -> dict[tuple[ArmKey, Metric], Figure]:
    wanted = {(metric.phase, metric.name): metric for metric in FOLLOWED}
    rows = con.execute(
        "SELECT router, guard, client, pool, phase, metric, mean, low, high, n_seeds, n_censored FROM arms WHERE NOT reference"
    ).fetchall()
    found: dict[tuple[ArmKey, Metric], Figure] = {}
    for router, guard, client, pool, phase, name, mean, low, high, n, censored in rows:
        metric = wanted.get((phase, name))
        if metric is not None and n:
            found[(router, guard, client, pool), metric] = Figure(mean, low, high, bool(censored) and mean is None)
    return found


def by_kind(nights: Sequence[Night]) -> dict[str, list[Night]]:
    """Histories: nights that ask the same question, in order, the most recent history first."""
    found: dict[str, list[Night]] = defaultdict(list)
    for night in nights:
        found[night.kind].append(night)
    return dict(sorted(found.items(), key=lambda item: item[1][-1].started_utc, reverse=True))
