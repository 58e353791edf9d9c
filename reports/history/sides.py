"""A run as one side of a comparison: each metric of each arm by seed, verdicts, workloads, settings. It judges nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from reports.arms import Ended, middle, seed_mean
from reports.history.metrics import FOLLOWED, Metric
from reports.history.nights import ArmKey

OF_MANIFEST = ("driver", "commit", "code_hash", "versions", "host", "profile", "trace", "capacity")
NOT_A_SETTING = ("content_hash", "report")
Told = TypeVar("Told")
_ARM = "router, guard, client, pool"
_SOUND = "SELECT cell_facts.arm_id, seed FROM cell_facts JOIN certificates USING (cell_id) WHERE NOT void"


@dataclass(frozen=True)
class Side:
    """`values`: (arm, metric) → seed → value, None where it is beyond all that was answered; cells that are void are left out.
    `verdicts`: arm → seed → verdict. `workloads`: seed → content hash. `settings`: key → value, of study and manifest."""

    run: Path
    name: str
    started_utc: str
    values: Mapping[tuple[ArmKey, Metric], Mapping[int, float | None]]
    verdicts: Mapping[ArmKey, Mapping[int, str]]
    workloads: Mapping[int, str]
    settings: Mapping[str, str]
    void: int
    cells: int


def read_side(run: Path, name: str) -> Side:
    """One run; ValueError in one line when its files are missing or cannot be read."""
    import duckdb
    import yaml

    if not (run / "results.duckdb").is_file():
        raise ValueError(f"{run}: no results.duckdb; allowed: the folder of a finished run")
    try:
        study = yaml.safe_load((run / "study.yaml").read_text(encoding="utf-8"))
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        if not isinstance(study, dict) or not isinstance(manifest, dict):
            raise ValueError("study.yaml and manifest.json must be mappings")
        with duckdb.connect(str(run / "results.duckdb"), read_only=True) as con:
            counted = con.execute("SELECT count(*), count(*) FILTER (void) FROM certificates").fetchone() or (0, 0)
            hashes = con.execute("SELECT DISTINCT seed, workload_hash FROM cell_facts ORDER BY ALL").fetchall()
            values, verdicts = _values(con), _verdicts(con)
    except (OSError, ValueError, yaml.YAMLError, duckdb.Error) as error:
        raise ValueError(f"{run}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    study = {key: value for key, value in study.items() if key not in NOT_A_SETTING}
    made = {key: manifest.get(key) for key in OF_MANIFEST}
    return Side(
        run=run,
        name=name,
        started_utc=str(manifest.get("started_utc", "")),
        values=values,
        verdicts=verdicts,
        workloads={int(seed): str(content) for seed, content in hashes},
        settings={**dict(leaves(study, "study")), **dict(leaves(made, ""))},
        void=int(counted[1]),
        cells=int(counted[0]),
    )


def leaves(value: Any, prefix: str) -> list[tuple[str, str]]:
    """Every setting as (`a.b`, text); items of a list by their label or name, else by place; what is empty or null vanishes."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in leaves(item, f"{prefix}.{key}" if prefix else str(key))]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        named = [
            (str(item.get("label") or item.get("name") or i) if isinstance(item, dict) else str(i), item)
            for i, item in enumerate(value)
        ]
        return [pair for name, item in named for pair in leaves(item, f"{prefix}[{name}]")]
    if isinstance(value, list):
        return [(prefix, ", ".join(map(str, value)))] if value else []
    return [] if value is None else [(prefix, f"{value:.6g}" if isinstance(value, float) else str(value))]


def _values(con: Any) -> dict[tuple[ArmKey, Metric], dict[int, float | None]]:
    steady = [m for m in FOLLOWED if m.phase == "steady"]
    marks = ", ".join(f"{m.name}_censored" if m.is_percentile else "false" for m in steady)
    found = _Seeds[float | None]()
    rows = con.execute(
        f"SELECT {_ARM}, arm_id, seed, {marks}, {', '.join(m.name for m in steady)} FROM cells"
        f" SEMI JOIN ({_SOUND}) USING (arm_id, seed) WHERE phase = 'steady' AND NOT reference"
    ).fetchall()
    for *arm, arm_id, seed, rest in ((*row[:6], row[6:]) for row in rows):
        for metric, censored, value in zip(steady, rest[: len(steady)], rest[len(steady) :], strict=True):
            if censored or value is not None:
                found.add((_key(arm), metric), arm_id, seed, None if censored else float(value))
    (lost,) = (m for m in FOLLOWED if m.name == "lost_goodput")
    query = (
        f"SELECT {_ARM}, arm_id, seed, lost_goodput FROM verdicts SEMI JOIN ({_SOUND}) USING (arm_id, seed) WHERE NOT reference"
    )
    for *arm, arm_id, seed, value in con.execute(query).fetchall():
        if value is not None:
            found.add((_key(arm), lost), arm_id, seed, float(value))
    return {key: {seed: seed_mean(values) for seed, values in seeds.items()} for key, seeds in found.by_seed.items()}


class _Seeds(Generic[Told]):
    """What is told of each arm, by seed: a list, for a seed may be run again. ValueError for two arms of one name."""

    def __init__(self) -> None:
        self.by_seed: dict[Any, dict[int, list[Told]]] = {}
        self._arm_ids: dict[Any, str] = {}

    def add(self, key: Any, arm_id: str, seed: int, told: Told) -> None:
        if self._arm_ids.setdefault(key, arm_id) != arm_id:
            arm = key[0] if isinstance(key[0], tuple) else key
            raise ValueError(f"arm {', '.join(arm)} is there twice; allowed: one load and trigger a run")
        self.by_seed.setdefault(key, {}).setdefault(int(seed), []).append(told)


def _key(arm: list[Any]) -> ArmKey:
    router, guard, client, pool = map(str, arm)
    return router, guard, client, pool


def _verdicts(con: Any) -> dict[ArmKey, dict[int, str]]:
    """A seed's verdict; of its repeats that of the run in the middle."""
    query = (
        f"SELECT {_ARM}, arm_id, seed, {', '.join(Ended._fields)} FROM verdicts SEMI JOIN ({_SOUND}) USING (arm_id, seed)"
        " WHERE NOT reference AND verdict IS NOT NULL ORDER BY ALL"
    )
    found = _Seeds[Ended]()
    for *arm, arm_id, seed, ended in ((*row[:6], Ended(*row[6:])) for row in con.execute(query).fetchall()):
        found.add(_key(arm), arm_id, seed, ended)
    return {arm: {seed: str(middle(runs).verdict) for seed, runs in seeds.items()} for arm, seeds in found.by_seed.items()}
