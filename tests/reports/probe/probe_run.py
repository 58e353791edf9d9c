"""A finished probe's folder from a world whose truth is known: answers, findings, seconds, study and manifest. No simulation."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
import yaml

from reports.database import open_database
from reports.probe.asks import Answer
from reports.probe.conclude import findings
from reports.probe.plan import ProbePlan
from reports.probe.tables import write_answers, write_findings
from tests.reports.probe.fake_world import ALWAYS, World, probed
from tests.reports.probe.plans import DEFAULT

WARMUP_S, STEADY_S, BURST_S = 30, 60, 20
SURVIVED = {
    "round_robin": 2.1,
    "least_outstanding": 2.9,
    "power_of_two": 2.6,
    "consistent_hash": 1.7,
    "cache_aware": 3.3,
    "epp_weighted": 3.6,
}
GAIN = {"none": 1.0, "retry budget": 2.2, "queue cap": 1.7, "breaker": 1.1, "codel": 1.5, "budget and cap": 3.5}
CURING = {"no_retries": ALWAYS, "cancel": 1.8, "queue_cap": 1.5}
"""What a change multiplies the survived size by; others do nothing."""
PLAN = replace(DEFAULT, fractions=(0.5, 0.7, 0.9), placebo_seeds=6, pulse_seeds=3)


def survives(arm: tuple[str, str], variant: str, load_rps: float, length_s: float) -> float:
    """Smaller at higher load and for longer bursts; retries are what keeps it down, and with cancelled work it is milder."""
    spare = (1.05 - load_rps / PLAN.c_ref_rps) / 0.35
    gained = (SURVIVED[arm[0]] * GAIN[arm[1]] - 1) * spare * CURING.get(variant, 1.0)
    return 1 + gained * math.sqrt(20 / length_s)


WORLD = World(
    survives=survives,
    capacity_rps=lambda arm: 25.0 if arm[0] == "consistent_hash" else 29.0 + 0.5 * len(arm[1]) % 3,
    hidden_rps=lambda arm: 9.0 * GAIN[arm[1]] ** 0.8,
    cost=lambda arm: (0.05 * GAIN[arm[1]], 0.03 * GAIN[arm[1]]),
)


def make_probe_run(path: Path, plan: ProbePlan = PLAN, world: World = WORLD, title: str = "The map, made up") -> Path:
    """A whole folder but for its page."""
    path.mkdir(parents=True)
    answers = [replace(a, cell_id=f"{i:08x}", evidence=f"cells/{i:08x}.parquet") for i, a in enumerate(probed(plan, world))]
    write_results(path, plan, answers)
    study = {
        "name": "probe",
        "report": {"title": title},
        "workload": {"trace": "synthetic"},
        "routers": list(plan.routers),
        "guards": [{"label": g, "guards": []} for g in plan.guards],
        "client": [{"name": "aggressive", "ttft_timeout_s": 10.0, "max_attempts": 4, "cancel": False}],
        "phases": {"warmup_s": WARMUP_S, "steady_s": STEADY_S, "recovery_s": 300, "drain_s": 30},
        "trigger": json.loads(plan.spike),
        "pool": {"replicas": 4, "profile": "h100-vllm-llama8b", "changes": {"max_running": 24}},
        "slo": {"ttft_s": 5.0, "tpot_s": 0.1, "e2e_s": None},
        "probe": {"wanted": {"k": plan.wanted_k, "fraction": plan.wanted_fraction}, "lengths_s": list(plan.lengths_s)},
    }
    (path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    manifest = {
        "trace": {"name": "synthetic", "source": "synthetic", "synthetic": True, "licence": "ours"},
        "profile": {"name": "derated", "engine": "vllm", "gpu": "H100"},
        "capacity": {"c_ref_rps": plan.c_ref_rps},
        "cells": {"total": len(answers)},
        "commit": "0123456789abcdef",
        "started_utc": "2026-11-24T17:00:00Z",
        "ended_utc": "2026-11-24T17:09:00Z",
        "versions": {"stampede": "0.1.0"},
    }
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def write_results(path: Path, plan: ProbePlan, answers: list[Answer]) -> None:
    with open_database(str(path / "results.duckdb")) as con:
        write_answers(con, answers)
        write_findings(con, findings(plan, answers))
        rows = pl.DataFrame(list(_seconds(answers)), schema=SECONDS, orient="row")
        con.register("rows", rows)
        con.execute("CREATE TABLE seconds AS SELECT * FROM rows")
        con.unregister("rows")


SECONDS = {"cell_id": pl.String, "t_s": pl.Float64, "phase": pl.String, "scheduled": pl.Int64, "succeeded": pl.Int64,
           "undecided": pl.Int64, "in_flight": pl.Float64, "waiting": pl.Float64}  # fmt: skip


def _seconds(answers: Iterable[Answer]) -> Iterable[tuple[object, ...]]:
    """A made-up course for every judged burst: calm, a queue that grows, then a slow return or a stuck state."""
    for a in answers:
        if a.recovered is None or a.ask.variant or a.ask.phase == "attribution":
            continue
        load, k = a.ask.load_rps, float(json.loads(a.ask.trigger).get("k", 2.0))
        watched = 300 if not a.recovered else int((a.recovery_s or 0) + 60)
        queue = 0.0
        for t in range(WARMUP_S + STEADY_S + BURST_S + watched):
            after = t - WARMUP_S - STEADY_S - BURST_S
            phase = "warmup" if t < WARMUP_S else "steady" if t < WARMUP_S + STEADY_S else "trigger" if after < 0 else "recovery"
            due = load * (k if phase == "trigger" else 1.0)
            wobble = math.sin(t * 1.7 + a.ask.seed) * 0.08
            if phase == "trigger":
                queue += due - load
            elif phase == "recovery":
                back = a.recovery_s or 0.0
                queue = queue * (1 - 4 / (back + 4)) if a.recovered else min(queue * 1.02, 40 * load)
            ok = due / (1 + queue / (1.5 * load)) * (0.97 + wobble)
            flight = 2.2 * load * (1 + wobble) + queue
            yield a.cell_id, float(t), phase, round(due), round(min(due, ok)), 0, flight, max(0.0, queue)
