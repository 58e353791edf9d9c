"""Finds the finished cells of a run and loads their cell.json and the SLO into DuckDB. It does not read attempts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.database import insert_rows

if TYPE_CHECKING:
    import duckdb

NAMES = ("cell_id", "arm_id", "router", "guard", "client", "engine", "pool", "workload", "driver", "workload_hash", "code_hash")
COUNTS = ("planned", "scheduled", "ok", "failed", "abandoned", "censored", "not_due")
SLO_KEYS = ("ttft_s", "tpot_s", "e2e_s")
NOT_THE_ARM = ("seed", "repeat", "workload", "workload_hash", "trigger")
VIRTUAL, SIMULATED = "virtual", "simulated"
REFERENCE_POLICIES = frozenset({"oracle"})  # know what no router can know: drawn, but never ranked and never the best
HOLDING_POLICIES = frozenset({"fair_vtc", "dlpm"})  # have a queue of their own: what it holds is not the sender's lag
FOR_EVER_US = 2**62

_FACTS = """CREATE TABLE cell_facts (
    cell_id VARCHAR PRIMARY KEY, arm_id VARCHAR, router VARCHAR, guard VARCHAR, client VARCHAR, engine VARCHAR, pool VARCHAR,
    workload VARCHAR, driver VARCHAR, workload_hash VARCHAR, code_hash VARCHAR, policy VARCHAR, reference BOOLEAN,
    gateway VARCHAR, arm VARCHAR, pool_engine VARCHAR, repeat BIGINT,
    load_rps DOUBLE, trigger_kind VARCHAR, trigger_words VARCHAR, k DOUBLE, d_s DOUBLE, seed BIGINT, replicas BIGINT,
    drain_s DOUBLE, until_s DOUBLE, cpu_s DOUBLE,
    planned BIGINT, scheduled BIGINT, ok BIGINT, failed BIGINT, abandoned BIGINT, censored BIGINT, not_due BIGINT,
    replay_conserved BOOLEAN, may_hold BOOLEAN, calm_arm VARCHAR, attempts_file VARCHAR, samples_file VARCHAR,
    decisions_file VARCHAR, workload_file VARCHAR, spec JSON)"""
_PHASES = """CREATE TABLE phases (
    cell_id VARCHAR, phase VARCHAR, start_s DOUBLE, end_s DOUBLE, load_rps DOUBLE, start_us BIGINT, until_us BIGINT)"""


def finished_cells(run: Path) -> list[Path]:
    """The cell folders of `run` that are whole (cell.json is written last), by name; raises ValueError when there is none."""
    folders = sorted(file.parent for file in (run / "cells").glob("[!.]*/cell.json"))  # .NAME.PID is being written
    if not folders:
        raise ValueError(f"{run}: no finished cell (cells/*/cell.json); allowed: the folder of a run that finished a cell")
    return folders


def read_facts(folder: Path) -> dict[str, Any]:
    """A cell's cell.json; raises ValueError naming the file and what is wrong with it."""
    file = folder / "cell.json"
    try:
        facts = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(facts, dict):
        raise ValueError(f"{file}: a {type(facts).__name__}; allowed: an object")
    return facts


def load_facts(con: "duckdb.DuckDBPyConnection", cells: list[tuple[Path, Path, dict[str, Any]]]) -> None:
    """Creates `cell_facts` and `phases` from (attempts file, workload file, facts) of each cell.

    A cell's samples and decisions lie beside its attempts. Raises ValueError naming the file and the missing key.
    """
    con.execute(_FACTS)
    con.execute(_PHASES)
    rows: list[tuple[Any, ...]] = []
    bounds: list[tuple[Any, ...]] = []
    for attempts, workload, facts in cells:
        try:
            rows.append(_facts_row(attempts, workload, facts))
            bounds += _phase_rows(facts)
        except KeyError as error:
            raise ValueError(f"{attempts.parent / 'cell.json'}: key {error} is missing") from error
    insert_rows(con, "cell_facts", rows)
    insert_rows(con, "phases", bounds)


def load_slo(con: "duckdb.DuckDBPyConnection", slo: Mapping[str, Any]) -> None:
    """Sets the variables that slo.sql reads; raises ValueError for an unknown key or a limit that is not a positive number."""
    for key in slo:
        if key not in SLO_KEYS:
            raise ValueError(f"slo.{key}: unknown; allowed: {', '.join(SLO_KEYS)}")
    for key in SLO_KEYS:
        limit = slo.get(key)
        if limit is not None and not (isinstance(limit, int | float) and limit > 0):
            raise ValueError(f"slo.{key}: {limit!r}; allowed: a number of seconds above 0, or null")
        con.execute(f"SET VARIABLE slo_{key} = ?", [None if limit is None else float(limit)])


def _facts_row(attempts: Path, workload: Path, facts: dict[str, Any]) -> tuple[Any, ...]:
    spec, trigger, counts = facts["spec"], facts["trigger"], facts["counts"]
    policy = spec["router"]["name"]
    return (
        *(facts[name] for name in NAMES),
        policy,
        policy in REFERENCE_POLICIES,
        *_place(facts),
        facts["load_rps"],
        trigger.get("kind"),
        facts.get("trigger_words"),
        trigger.get("k"),
        trigger.get("d_s"),
        facts["seed"],
        facts["replicas"],
        facts["drain_s"],
        max(phase["end_s"] for phase in facts["phases"]) + facts["drain_s"],
        facts["cpu_s"],
        *(counts[name] for name in COUNTS),
        facts["conserved"],
        facts["driver"] == VIRTUAL and (bool(spec.get("guards")) or policy in HOLDING_POLICIES),
        _calm_arm(facts),
        *(str(file) for file in (attempts, attempts.with_name("samples.parquet"), attempts.with_name("decisions.parquet"))),
        str(workload),
        json.dumps(spec, sort_keys=True),
    )


def _place(facts: dict[str, Any]) -> tuple[str, str, str, int]:
    """gateway ('' = our own router), its arm, what the pool is served by, and which repeat of its seed the cell is."""
    spec = facts["spec"]
    router, pool = spec["router"], spec.get("pool") or {}
    served = pool.get("engine") or (SIMULATED if facts["driver"] == VIRTUAL else "unknown")
    return router.get("gateway") or "", router.get("arm") or "", served, spec.get("repeat") or 0


def _calm_arm(facts: dict[str, Any]) -> str:
    """The arm without its trigger: cells that share it behave alike until something disturbs them."""
    names = [facts[name] for name in ("router", "guard", "client", "engine", "pool", "workload", "load_rps")]
    spec = {key: value for key, value in facts["spec"].items() if key not in NOT_THE_ARM}
    spec["plan"] = {key: value for key, value in spec.get("plan", {}).items() if key != "trigger"}
    return json.dumps([names, spec], sort_keys=True)


def _phase_rows(facts: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Each phase, and the drain after the last one (no arrivals, no end)."""
    rows = [
        (facts["cell_id"], p["name"], p["start_s"], p["end_s"], p["load_rps"], _us(p["start_s"]), _us(p["end_s"]))
        for p in facts["phases"]
    ]
    horizon_s = max(phase["end_s"] for phase in facts["phases"])
    return [*rows, (facts["cell_id"], "drain", horizon_s, horizon_s + facts["drain_s"], 0.0, _us(horizon_s), FOR_EVER_US)]


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
