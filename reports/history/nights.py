"""The runs of a folder as nights in order of time, with what each says of its arms. It judges nothing."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reports.history.metrics import FOLLOWED, Metric

SIGNS = ("study.yaml", "manifest.json", "results.duckdb", "cells")
"""What a run folder has: one of these makes a folder a run, whole or broken."""
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
    """One finished run. `kind` is what runs must share to be compared: study, workload, load, trigger and SLO by content.

    `started_utc` is an ISO time with its offset. `question` is what was run to the last byte: workloads' hashes, arms and pool.
    A run with a `void` cell did not deliver its load and is not judged.
    """

    run: Path
    started_utc: str
    study: str
    kind: str
    commit: str | None
    code: str
    void: int
    cells: int
    question: str
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
    for run in sorted(path for path in folder.iterdir() if any((path / name).exists() for name in SIGNS)):
        try:
            nights.append(read_night(run))
        except ValueError as error:
            skipped.append(Skipped(run, str(error).removeprefix(f"{run}: ")))
    if not nights:
        reasons = f" ({skipped[0].run.name}: {skipped[0].why})" if skipped else ""
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
        study = _mapping(yaml.safe_load((run / "study.yaml").read_text(encoding="utf-8")), "study.yaml")
        manifest = _mapping(json.loads((run / "manifest.json").read_text(encoding="utf-8")), "manifest.json")
        started = _time(manifest.get("started_utc"))
        if not manifest.get("ended_utc"):
            raise ValueError("it did not finish (manifest.json has no ended_utc); continue with `stampede run --resume`")
        with duckdb.connect(str(results), read_only=True) as con:
            figures = _figures(con)
            cells, void = con.execute("SELECT count(*), count(*) FILTER (void) FROM certificates").fetchone() or (0, 0)
            workloads = con.execute("SELECT DISTINCT arm_id, seed, workload_hash FROM cell_facts ORDER BY ALL").fetchall()
    except (OSError, ValueError, yaml.YAMLError, duckdb.Error) as error:
        raise ValueError(f"{run}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    commit = manifest.get("commit")
    return Night(
        run=run,
        started_utc=started,
        study=str(study.get("name", "")),
        kind=kind_of(study),
        commit=None if commit is None else str(commit),
        code=str(manifest.get("code_hash", "")),
        void=int(void),
        cells=int(cells),
        question=json.dumps([study.get("profile_hash"), study.get("pool"), workloads], default=str),
        figures=figures,
    )


def _mapping(content: Any, file: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{file}: a {type(content).__name__}; allowed: a mapping")
    return content


def _time(text: Any) -> str:
    """An ISO time in UTC; ValueError when it is none. A time without an offset is taken as UTC."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise ValueError(f"manifest.json: started_utc: {text!r}; allowed: an ISO time") from None
    return (found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)).isoformat(timespec="seconds")


def kind_of(study: dict[str, Any]) -> str:
    """What must be equal for two nights to be of one history, as canonical JSON: the same question, asked again.

    Seeds, routers, guards and clients may differ (arms are matched by label), the trace's file may be a newer one of one name.
    """
    keys = ("name", "load", "phases", "trigger", "events", "slo", "session", "observation")
    workload = {key: value for key, value in (study.get("workload") or {}).items() if key not in ("trace", "source", "columns")}
    return json.dumps(_filled({**{key: study.get(key) for key in keys}, "workload": workload}), sort_keys=True, default=str)


def _filled(value: Any) -> Any:
    """Without keys that say nothing (null, empty), which studies written by older code do not have."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := _filled(item)) not in (None, {}, [])}
    return value


def _figures(con: Any) -> dict[tuple[ArmKey, Metric], Figure]:
    wanted = {(metric.phase, metric.name): metric for metric in FOLLOWED}
    rows = con.execute(
        "SELECT router, guard, client, pool, phase, metric, mean, low, high, n_seeds, n_censored FROM arms WHERE NOT reference"
    ).fetchall()
    found: dict[tuple[ArmKey, Metric], Figure] = {}
    for router, guard, client, pool, phase, name, mean, low, high, n, censored in rows:
        metric = wanted.get((phase, name))
        if metric is None or not n:
            continue
        key = (router, guard, client, pool), metric
        if key in found:
            raise ValueError(f"arm {router}, {guard}, {client}, {pool} is there twice; allowed: one load and trigger a run")
        found[key] = Figure(mean, low, high, metric.is_percentile and bool(censored) and mean is None)
    return found


def by_kind(nights: Sequence[Night]) -> dict[str, list[Night]]:
    """Histories: nights that ask the same question, in order, the most recent history first."""
    found: dict[str, list[Night]] = defaultdict(list)
    for night in nights:
        found[night.kind].append(night)
    return dict(sorted(found.items(), key=lambda item: item[1][-1].started_utc, reverse=True))


def dates(nights: Sequence[Night]) -> list[str]:
    """What each night is called: its date, with the time where a date has several."""
    days = [night.started_utc[:10] for night in nights]
    return [f"{day} {night.started_utc[11:16]}" if days.count(day) > 1 else day for day, night in zip(days, nights, strict=True)]
