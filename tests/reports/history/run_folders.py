"""Small run folders with known truth: results.duckdb by way of `reports.arms`, study.yaml, manifest.json. No cell is replayed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reports.arms import PLAIN, RANKED, Arm, write_arms
from reports.database import insert_rows, open_database

FIRST = datetime(2026, 9, 1, 2, 0, tzinfo=UTC)
BASE = {
    "ttft_p50_s": 0.12,
    "ttft_p90_s": 0.3,
    "ttft_p99_s": 0.5,
    "tpot_p50_s": 0.02,
    "tpot_p90_s": 0.03,
    "tpot_p99_s": 0.04,
    "e2e_p50_s": 3.0,
    "e2e_p90_s": 6.0,
    "e2e_p99_s": 9.0,
    "success": 0.97,
    "answered": 1.0,
    "goodput_rps": 5.8,
    "offered_rps": 6.0,
    "cache_hit": 0.4,
    "imbalance": 1.1,
    "attempts_per_request": 1.0,
    "client_attempts_per_request": 1.0,
    "work_waste": 0.01,
}
_ARM = """arm_id VARCHAR, router VARCHAR, policy VARCHAR, reference BOOLEAN, gateway VARCHAR, arm VARCHAR, guard VARCHAR,
    client VARCHAR, driver VARCHAR, pool_engine VARCHAR, engine VARCHAR, pool VARCHAR, workload VARCHAR, load_rps DOUBLE,
    trigger_kind VARCHAR, trigger_words VARCHAR, k DOUBLE, d_s DOUBLE"""
Change = Mapping[str, float | None]
"""Metric → factor on its base; None = censored in every seed."""


@dataclass(frozen=True)
class Recipe:
    """What a night is like. `changes`: router → what differs; `noise`: a night's CV, drawn from `seed`; 0 = none."""

    routers: Sequence[str] = ("round_robin", "least_outstanding")
    seeds: Sequence[int] = (1, 2, 3)
    repeats: int = 1
    changes: Mapping[str, Change] = field(default_factory=dict)
    noise: float = 0.03
    jitter: float = 0.003  # the CV of a seed within its night
    seed: int = 0
    code: str = "aaaaaaaaaaaaaaaa"
    commit: str | None = "1" * 40
    void: int = 0
    not_back: Mapping[str, int] = field(default_factory=dict)  # router → how many seeds stay down
    workload: str = "w"
    study: Mapping[str, Any] = field(default_factory=dict)
    title: str = "nightly"
    pool: str = "2 × p"


def write_night(folder: Path, night: int | float, recipe: Recipe) -> Path:
    """The run folder of one night, `night` days after `FIRST`."""
    started = FIRST + timedelta(days=night)
    run = folder / f"night-{started:%Y%m%dT%H%M%S}"
    run.mkdir(parents=True)
    study = {
        "name": recipe.title,
        "workload": {"trace": "synthetic"},
        "load": {"rps": 6.0},
        "slo": {"ttft_s": 2.0},
        "pool": {"replicas": 2, "profile": "p"},
        "profile_hash": "f" * 16,
        "trigger": {"kind": "spike", "k": 3},
        "seeds": list(recipe.seeds),
        "routers": [{"name": router} for router in recipe.routers],
        **recipe.study,
    }
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    manifest = {
        "study": recipe.title,
        "started_utc": started.isoformat(),
        "ended_utc": (started + timedelta(hours=1)).isoformat(),
        "commit": recipe.commit,
        "code_hash": recipe.code,
        "versions": {"python": "3.11.7", "duckdb": "2.0.0"},
        "host": {"cores": 2},
        "profile": {"name": "p", "gpu": "H100"},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    _write_results(run, recipe)
    return run


def _write_results(run: Path, recipe: Recipe) -> None:
    draw = np.random.default_rng(recipe.seed)
    marks = ", ".join(f"{name}_censored BOOLEAN" for name in RANKED)
    numbers = ", ".join(f"{name} DOUBLE" for name in (*RANKED, *PLAIN))
    cells, verdicts, facts = [], [], []
    for router in recipe.routers:
        arm = Arm(
            f"arm {router}", router, router, False, "", "", "none", "3 tries", "virtual", "simulated", "vllm", recipe.pool, "w",
            6.0, "spike", "", 3.0, 5.0,
        )  # fmt: skip
        shifted = recipe.changes.get(router, {})
        nightly = {name: float(np.exp(draw.normal(0, recipe.noise))) for name in BASE}
        for i, seed, repeat in ((i, s, r) for i, s in enumerate(recipe.seeds) for r in range(recipe.repeats)):
            values: dict[str, float | None] = {}
            for name, base in BASE.items():
                factor = shifted.get(name, 1.0)
                own = 1 + 0.02 * np.sin(seed + len(name))  # what a seed is like, the same every night
                values[name] = (
                    None if factor is None else float(base * factor * nightly[name] * own * np.exp(draw.normal(0, recipe.jitter)))
                )
            for name in ("success", "answered", "cache_hit"):
                values[name] = min(1.0, float(values[name] or 0.0))
            cell = f"{arm.arm_id} {seed} {repeat}"
            censored = [values[name] is None for name in RANKED]
            cells.append((*arm, cell, "steady", seed, repeat, *censored, *(values[name] for name in (*RANKED, *PLAIN))))
            down = i < recipe.not_back.get(router, 0)
            lost = 400.0 if down else 30.0 * nightly["success"]
            verdicts.append((*arm, cell, seed, repeat, "metastable" if down else "recovered", 5.0, 60.0, lost, 1.5, False))
            facts.append((cell, arm.arm_id, seed, f"{recipe.workload}{seed}"))
    with open_database(str(run / "results.duckdb")) as con:
        con.execute(
            f"CREATE TABLE cells ({_ARM}, cell_id VARCHAR, phase VARCHAR, seed BIGINT, repeat BIGINT, {marks}, {numbers})"
        )
        insert_rows(con, "cells", cells)
        con.execute(
            f"CREATE TABLE verdicts ({_ARM}, cell_id VARCHAR, seed BIGINT, repeat BIGINT, verdict VARCHAR, recovery_s DOUBLE,"
            " censored_s DOUBLE, lost_goodput DOUBLE, retry_amplification DOUBLE, false_alarm BOOLEAN)"
        )
        insert_rows(con, "verdicts", verdicts)
        con.execute("CREATE TABLE cell_facts (cell_id VARCHAR, arm_id VARCHAR, seed BIGINT, workload_hash VARCHAR)")
        insert_rows(con, "cell_facts", facts)
        con.execute("CREATE TABLE certificates (cell_id VARCHAR, void BOOLEAN)")
        insert_rows(con, "certificates", [(row[0], i < recipe.void) for i, row in enumerate(facts)])
        write_arms(con)
