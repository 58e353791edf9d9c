"""Writes a run folder of made-up cells whose truth is known. It knows the files' contract, not what reports make of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from replay.rows import Attempt, DecisionRow, ReplicaSample
from tests.reports.series import DRAIN_S, PHASES, Series, series

SLO = {"ttft_s": 2.0, "tpot_s": 0.1, "e2e_s": 30.0}
COUNTS = ("attempt", "client_attempt", "router_try", "status")
TIMEOUT_S, BACKOFF_S, TPOT_S, REPLICAS = 5.0, 1.0, 0.02, 4


@dataclass(frozen=True)
class Arm:
    """One made-up arm: `kind` names its course in `tests.reports.series.KINDS`."""

    router: str
    client: str
    kind: str
    guard: str = "none"
    trigger: str = "spike"
    policy: str | None = None  # the label, unless said otherwise


EVENTS: tuple[dict[str, Any], ...] = (
    {"t_s": 20.0, "kind": "slow", "replica": None, "for_s": 5.0, "factor": 3.0, "running": 7, "waiting": 0},
    {"t_s": 50.0, "kind": "kill", "replica": 0, "for_s": 10.0, "lost": 10, "refused": 20, "polls_lost": 10, "probes_lost": 0},
    {"t_s": 52.0, "kind": "flush", "replica": None, "flushed_tokens": 1000},
    {
        "t_s": 165.0,
        "kind": "refuse",
        "replica": 1,
        "for_s": 5.0,
        "status": 429,
        "share": 0.5,
        "skipped": "ended at 160 s",
    },
)
"""What the replay records; counts of seed 1, those of seed n are n times as many. With trigger kill the second is the trigger."""
HITS = ("running", "lost", "refused", "flushed_tokens")
ORPHANED, CANCEL = "retry for ever, orphaned", "retry for ever, cancelled"
ARMS = (
    Arm("least_outstanding", ORPHANED, "dead"),
    Arm("round_robin", ORPHANED, "dead"),
    Arm("cache_aware", ORPHANED, "recovered"),
    Arm("least_outstanding", CANCEL, "recovered"),
    Arm("round_robin", CANCEL, "recovered"),
    Arm("cache_aware", CANCEL, "healthy"),
)


def make_run_folder(
    path: Path,
    arms: Sequence[Arm] = ARMS,
    seeds: Sequence[int] = (1, 2, 3),
    load_rps: float = 12.0,
    k: float = 3.0,
    slo: dict[str, float | None] | dict[str, float] = SLO,
    events: Sequence[dict[str, Any]] = (),
) -> Path:
    """A whole run folder (no results.duckdb): cells of `arms` × `seeds`, paired arrivals, study.yaml, manifest.json.

    `events` are those of seed 1, like `EVENTS`; without any, cell.json has none, as older runs have it.
    """
    for seed in seeds:
        for placebo in {arm.trigger == "placebo" for arm in arms}:
            _write_workload(path, _plan(seed, load_rps, 1.0 if placebo else k))
    for arm in arms:
        for seed in seeds:
            write_cell(path, arm, _plan(seed, load_rps, 1.0 if arm.trigger == "placebo" else k), events)
    (path / "study.yaml").write_text(yaml.safe_dump(_study(arms, seeds, load_rps, k, slo), sort_keys=False))
    (path / "manifest.json").write_text(json.dumps(_manifest(seeds), indent=1))
    return path


@dataclass(frozen=True)
class Plan:
    """The arrivals of one seed: the last request is not due, the two before it are turns of sessions that quit."""

    seed: int
    load_rps: float
    k: float
    due_s: np.ndarray[Any, np.dtype[np.float64]]
    prompt_tokens: np.ndarray[Any, np.dtype[np.int64]]
    output_tokens: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def workload_hash(self) -> str:
        return f"w{self.seed:02d}k{self.k:g}".replace(".", "_")


def _plan(seed: int, load_rps: float, k: float) -> Plan:
    rng = np.random.default_rng([seed, 1])
    due: list[float] = []
    start = 0.0
    for name, duration_s in PHASES:
        rate = load_rps * (k if name == "trigger" else 1.0)
        due += list(start + np.sort(rng.uniform(0, duration_s, rng.poisson(rate * duration_s))))
        start += duration_s
    n = len(due) + 3
    return Plan(seed, load_rps, k, np.array(due), rng.integers(200, 2000, n), rng.integers(1, 200, n))


def _write_workload(run: Path, plan: Plan) -> None:
    ids = np.arange(len(plan.prompt_tokens))
    table = {
        "request_id": ids,
        "session_id": ids // 2,
        "turn": ids % 2,
        "tenant": ids % 7,
        "prompt_tokens": plan.prompt_tokens,
        "output_tokens": plan.output_tokens,
    }
    (run / "workloads").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(table), run / "workloads" / f"{plan.workload_hash}.parquet")


def write_cell(run: Path, arm: Arm, plan: Plan, events: Sequence[dict[str, Any]] = ()) -> Path:
    """One cell's folder; cell.json comes last, as the replay writes it."""
    arm_id = f"{arm.router}.{arm.client}.{arm.guard}.{arm.trigger}".replace(" ", "-").replace(",", "")
    course = series(arm.kind, plan.seed)
    attempts = _attempts(plan, course)
    facts = _facts(arm, arm_id, plan, attempts)
    if events:
        facts["events"] = [{key: n * plan.seed if key in HITS else n for key, n in event.items()} for event in events]
    return write_rows(run, facts, attempts, _samples(course), _decisions(attempts))


def write_rows(
    run: Path,
    facts: dict[str, Any],
    attempts: Sequence[Attempt],
    samples: Sequence[ReplicaSample] = (),
    decisions: Sequence[DecisionRow] = (),
) -> Path:
    """The folder of the cell that `facts` (its cell.json) names, with these rows."""
    folder = run / "cells" / str(facts["cell_id"])
    folder.mkdir(parents=True)
    _write(folder / "attempts.parquet", Attempt, attempts)
    _write(folder / "samples.parquet", ReplicaSample, samples)
    _write(folder / "decisions.parquet", DecisionRow, decisions)
    (folder / "cell.json").write_text(json.dumps(facts, indent=1))
    return folder


def _attempts(plan: Plan, course: Series) -> list[Attempt]:
    rng = np.random.default_rng([plan.seed, 2])
    rows: list[Attempt] = []
    for request_id, due_s in enumerate(plan.due_s):
        t = int(due_s)
        meets = rng.random() < course.success[t]
        failures = 0 if meets else 1 + int(rng.poisson(course.retries[t]))
        ends_ok = meets or rng.random() < 0.5
        for attempt in range(1, failures + ends_ok + 1):
            at_s = due_s + (attempt - 1) * (TIMEOUT_S + BACKOFF_S)
            ttft_s = course.ttft_s[t] * rng.uniform(0.5, 1.5) if attempt > failures else None
            hit = min(1.0, max(0.0, course.hit[t] + rng.uniform(-0.05, 0.05)))
            rows.append(_attempt(plan, request_id, attempt, int(rng.integers(REPLICAS)), at_s, ttft_s, hit))
            if rows[-1].outcome == "censored":
                break
    rows.extend(_never_sent(len(plan.due_s) + i) for i in range(2))
    return rows


def _attempt(
    plan: Plan, request_id: int, attempt: int, replica_id: int, at_s: float, ttft_s: float | None, hit: float
) -> Attempt:
    """An attempt that answers after `ttft_s`, or times out when that is None; open ones at the drain's end are censored."""
    prompt, output = int(plan.prompt_tokens[request_id]), int(plan.output_tokens[request_id])
    end_s = at_s + (TIMEOUT_S if ttft_s is None else ttft_s + (output - 1) * TPOT_S)
    censored = end_s > sum(d for _, d in PHASES) + DRAIN_S
    ok = ttft_s is not None and not censored
    outcome = "censored" if censored else "ok" if ok else "timeout"
    cached = int(hit * prompt)
    scheduled_us = round(at_s * 1e6)
    return Attempt(
        request_id=request_id,
        attempt=attempt,
        client_attempt=attempt,
        router_try=1,
        replica_id=replica_id,
        prefill_id=None,
        scheduled_us=scheduled_us,
        sent_us=scheduled_us + 100,
        first_token_us=scheduled_us + round(1e6 * ttft_s) if ok and ttft_s is not None else None,
        ended_us=None if censored else round(end_s * 1e6),
        engine_ended_us=None if censored else round(end_s * 1e6) + (0 if ok else 3_000_000),
        max_gap_us=round(TPOT_S * 1e6) if ok and output > 1 else None,
        prompt_tokens=prompt,
        cached_tokens=cached,
        prefilled_tokens=prompt - cached,
        decoded_tokens=output if ok else output // 2,
        output_tokens=output if ok else 0,
        outcome=outcome,
        status=200 if ok else 0,
        error="" if ok else "no first token in time",
    )


def _never_sent(request_id: int) -> Attempt:
    """A turn whose session quit before it."""
    nothing = dict.fromkeys(f.name for f in fields(Attempt))
    counts = dict.fromkeys((name for name in nothing if name.endswith("_tokens") or name in COUNTS), 0)
    return Attempt(**{**nothing, **counts, "request_id": request_id, "outcome": "abandoned", "error": ""})  # type: ignore[arg-type]


def _samples(course: Series) -> list[ReplicaSample]:
    rows, hits, queries = [], 0.0, 0.0
    for t in range(len(course.success) + DRAIN_S):
        now = min(t, len(course.success) - 1)
        drained = max(0.0, 1 - (t - now) / course.drained_after_s)
        queries += 2500.0
        hits += 2500.0 * course.hit[now]
        for replica_id in range(REPLICAS):
            waiting = round(course.waiting[now] * drained / REPLICAS)
            age_us = round(course.queue_age_s[now] * drained * 1e6)
            running = round(course.running[now] * drained / REPLICAS)
            kv_used = min(1.0, 0.2 + waiting / 100)
            rows.append(ReplicaSample(t * 1_000_000, replica_id, running, waiting, kv_used, int(hits), int(queries), 0, age_us))
    return rows


def _decisions(attempts: list[Attempt]) -> list[DecisionRow]:
    scores, in_flight = [0.5, 0.25, 0.75, 1.0], [1, 2, 3, 4]
    return [
        DecisionRow(a.sent_us, a.request_id, a.client_attempt, 1, a.replica_id, None, "made up", scores, in_flight)
        for a in attempts
        if a.sent_us is not None and a.replica_id is not None
    ]


def _facts(arm: Arm, arm_id: str, plan: Plan, attempts: list[Attempt]) -> dict[str, Any]:
    last = {a.request_id: a.outcome for a in attempts}
    count = {"ok": 0, "timeout": 0, "abandoned": 0, "censored": 0}
    for outcome in last.values():
        count[outcome] += 1
    phases, start = [], 0.0
    for name, duration_s in PHASES:
        rate = plan.load_rps * (plan.k if name == "trigger" else 1.0)
        phases.append({"name": name, "start_s": start, "end_s": start + duration_s, "load_rps": rate})
        start += duration_s
    return {
        "cell_id": f"{arm_id}-s{plan.seed}",
        "arm_id": arm_id,
        "router": arm.router,
        "guard": arm.guard,
        "client": arm.client,
        "engine": "made-up-engine",
        "pool": f"{REPLICAS} replicas",
        "workload": "made up",
        "load_rps": plan.load_rps,
        **_trigger(arm, plan),
        "seed": plan.seed,
        "replicas": REPLICAS,
        "driver": "virtual",
        "phases": phases,
        "drain_s": DRAIN_S,
        "workload_hash": plan.workload_hash,
        "counts": {
            "planned": len(plan.prompt_tokens),
            "scheduled": len(last),
            "ok": count["ok"],
            "failed": count["timeout"],
            "abandoned": count["abandoned"],
            "censored": count["censored"],
            "not_due": 1,
        },
        "conserved": True,
        "code_hash": "made-up",
        "cpu_s": 0.1,
        "spec": _spec(arm, plan),
    }


def _trigger(arm: Arm, plan: Plan) -> dict[str, Any]:
    """A trigger of the pool has no k and says what it is in words; a burst is told as older runs told it."""
    trigger = {"kind": arm.trigger, "d_s": dict(PHASES)["trigger"]}
    if arm.trigger == "kill":
        return {"trigger": {**trigger, "replica_id": 0}, "trigger_words": "the loss of replica 0 for 10 s"}
    return {"trigger": {**trigger, "k": plan.k}}


def _spec(arm: Arm, plan: Plan) -> dict[str, Any]:
    """The cell as resolved, with how its workload was made."""
    making = {"trace": "made-up", "steady_s": dict(PHASES)["steady"], "trigger": {"kind": arm.trigger, "k": plan.k}}
    return {
        "router": {"name": arm.policy or arm.router, "label": arm.router},
        "client": {"name": arm.client},
        "guards": [],
        "seed": plan.seed,
        "plan": making,
    }


def _study(arms: Sequence[Arm], seeds: Sequence[int], load_rps: float, k: float, slo: Any) -> dict[str, Any]:
    return {
        "name": "made-up",
        "workload": {"trace": "synthetic"},
        "load": {"rps": load_rps},
        "phases": {f"{name}_s": duration_s for name, duration_s in PHASES if name != "trigger"} | {"drain_s": DRAIN_S},
        "trigger": {"kind": arms[0].trigger, "k": k, "d_s": dict(PHASES)["trigger"]},
        "pool": {"replicas": REPLICAS, "profile": "made-up-engine"},
        "routers": [{"name": name, "label": label} for label, name in sorted({(a.router, a.policy or a.router) for a in arms})],
        "guards": [{"label": label, "guards": []} for label in sorted({arm.guard for arm in arms})],
        "client": [{"name": name} for name in sorted({arm.client for arm in arms})],
        "observation": {"age_s": 0.0, "jitter_s": 0.0},
        "session": {"after_failure": "continue", "history": "engine"},
        "slo": dict(slo),
        "seeds": list(seeds),
        "report": {"title": "Made-up cells"},
        "hash": "0123456789abcdef",
    }


def _manifest(seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "versions": {"stampede": "0.1.0", "python": "3.11"},
        "commit": "0000000",
        "host": {"cores": 2, "memory_gb": 8, "python": "3.11"},
        "trace": {
            "name": "made up",
            "source": "tests/reports/run_folder.py",
            "licence": "Apache-2.0",
            "rows_read": 1000,
            "rows_dropped": {"empty prompt": 3},
            "synthetic": True,
        },
        "seeds": list(seeds),
        "started": "2026-11-01T00:00:00Z",
        "ended": "2026-11-01T00:01:00Z",
    }


PARQUET_TYPES: dict[Any, pa.DataType] = {
    int: pa.int64(),
    int | None: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    list[float]: pa.list_(pa.float64()),
    list[int]: pa.list_(pa.int64()),
}


def _write(path: Path, row_type: Any, rows: Sequence[Any]) -> None:
    schema = pa.schema([(f.name, PARQUET_TYPES[f.type]) for f in fields(row_type)])
    pq.write_table(pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema), path)
