"""Writes run folders of made-up cells on live pools, twins and repeats included. It knows the files' contract, nothing else."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from replay.rows import Attempt, ReplicaSample
from tests.reports import run_folder
from tests.reports.run_folder import CANCEL, REPLICAS, Arm, Plan, write_rows
from tests.reports.series import series

VLLM, SGLANG = "4 × vllm", "4 × sglang"
TWIN = f"{VLLM}, simulated"
REWRITING = [
    {"form": "chat", "where": "body", "field": "<b>stream_options</b>.x", "change": "dropped", "sent": "true", "received": ""},
    {
        "form": "completion",
        "where": "body",
        "field": "<b>stream_options</b>.x",
        "change": "dropped",
        "sent": "true",
        "received": "",
    },
    {"form": "chat", "where": "header", "field": "x-a", "change": "added", "sent": "", "received": '"1"'},
]
SELF_TEST = {
    "rps": 100.0, "requests": 300, "ok": 300, "cpu_s_per_request": 0.0004, "waited_s": 0.1, "drift_s": 0.0,
    "send_error_p50_s": 0.0001, "send_error_p99_s": 0.0008, "ttft_error_p50_s": 0.0001, "ttft_error_p99_s": 0.0005,
    "limits": {"send_p50_s": 0.0002, "send_p99_s": 0.001, "ttft_p50_s": 0.0005, "ttft_p99_s": 0.001, "drift_s": 0.0005},
    "misses": [], "passed": True,
}  # fmt: skip


@dataclass(frozen=True)
class LiveArm:
    """One arm on a pool. `later_s` is added to every first token (of repeat n: n·`noise_s` more); `gateway` "" is our router.

    `opaque`: the rows do not say which replica answered. `kind` as in `run_folder.Arm`. `pairs`: prefill on replica 0.
    """

    router: str
    policy: str = "round_robin"
    gateway: str = ""
    arm: str = ""
    pool: str = VLLM
    kind: str = "recovered"
    later_s: float = 0.0
    noise_s: float = 0.01
    hit: float = 0.5
    opaque: bool = False
    pairs: bool = False

    @property
    def live(self) -> bool:
        return "simulated" not in self.pool

    @property
    def served_by(self) -> str:
        return self.pool.rpartition(" ")[2] if self.live else "simulated"


ARMS = (
    LiveArm("direct", gateway="direct", hit=0.3),
    LiveArm("round_robin", later_s=0.02, hit=0.3),
    LiveArm("cache_aware", "cache_aware", later_s=0.02, hit=0.8),
    LiveArm("nginx: round_robin", gateway="nginx", arm="default", later_s=0.005, hit=0.3, opaque=True),
    LiveArm("direct", gateway="direct", pool=TWIN, later_s=0.1, hit=0.3),
    LiveArm("round_robin", pool=TWIN, later_s=0.1, hit=0.3),
    LiveArm("cache_aware", "cache_aware", pool=TWIN, later_s=0.1, hit=0.6),
    LiveArm("direct", gateway="direct", pool=SGLANG, later_s=0.3, hit=0.3),
    LiveArm("round_robin", pool=SGLANG, later_s=0.35, hit=0.3),
)
VERSIONS = {"direct": "", "": "0.1.0", "nginx": "nginx/1.22.1"}


def make_live_run(
    path: Path,
    arms: Sequence[LiveArm] = ARMS,
    seeds: Sequence[int] = (1, 2),
    repeats: int = 2,
    changes: dict[str, dict[str, Any]] | None = None,
    samples: bool = True,
    events: Sequence[dict[str, Any]] = (),
) -> Path:
    """A whole run folder (no results.duckdb). Simulated arms are not repeated. `changes`: of cell.json, by cell id.

    `samples`: whether gateway and GPU samples were taken.
    """
    for seed in seeds:
        run_folder._write_workload(path, run_folder._plan(seed, 12.0, 3.0))
    for arm in arms:
        for seed in seeds:
            for repeat in range(repeats if arm.live else 1):
                facts, attempts, gauges = live_cell(arm, run_folder._plan(seed, 12.0, 3.0), repeat, events)
                facts |= (changes or {}).get(facts["cell_id"], {})
                folder = write_rows(path, facts, attempts, gauges, [])
                if arm.live and samples:
                    _write_samples(folder)
    by_label = {arm.router: {"name": arm.policy, "label": arm.router, "gateway": arm.gateway or None} for arm in arms}
    pools = [{"label": label, "live": {}} for label in dict.fromkeys(arm.pool for arm in arms if arm.live)]
    plain = run_folder._study([Arm("x", CANCEL, "recovered")], seeds, 12.0, 3.0, run_folder.SLO)
    study = plain | {"routers": list(by_label.values()), "pool": pools or {"replicas": REPLICAS}}
    (path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    manifest = run_folder._manifest(seeds) | {"self_test": SELF_TEST, "engines": _engines(arms), "cards": {}}
    (path / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return path


def live_cell(
    arm: LiveArm, plan: Plan, repeat: int, events: Sequence[dict[str, Any]] = ()
) -> tuple[dict[str, Any], list[Attempt], list[ReplicaSample]]:
    """A cell's cell.json, attempts and samples."""
    course = series(arm.kind, plan.seed)
    drawn = replace(plan, seed=plan.seed + 100 * repeat)
    later_us = round(1e6 * (arm.later_s + repeat * arm.noise_s))
    attempts = [_as_seen(arm, row, later_us) for row in run_folder._attempts(drawn, course)]
    name = f"{arm.pool}-{arm.router}-{arm.arm}".replace(" ", "").replace(":", "")
    facts = run_folder._facts(Arm(arm.router, CANCEL, arm.kind, policy=arm.policy), name, plan, attempts)
    spec = facts["spec"] | {"repeat": repeat, "pool": {"label": arm.pool, "engine": arm.served_by}}
    spec["router"] = {"name": arm.policy, "label": arm.router, "gateway": arm.gateway, "arm": arm.arm}
    facts |= {"cell_id": f"{name}-s{plan.seed}-r{repeat}", "pool": arm.pool, "spec": spec, "events": list(events)}
    gauges = [_gauges(arm, row) for row in run_folder._samples(course)]
    return facts | (_live_facts(arm) if arm.live else {}), attempts, gauges


def _as_seen(arm: LiveArm, row: Attempt, later_us: int) -> Attempt:
    moved: dict[str, Any] = {
        name: time + later_us
        for name in ("first_token_us", "ended_us", "engine_ended_us")
        if row.outcome == "ok" and (time := getattr(row, name)) is not None
    }
    place: dict[str, Any] = {"replica_id": None, "router_try": None} if arm.opaque and row.attempt else {}
    place |= {"prefill_id": 0} if arm.pairs and row.replica_id is not None else {}
    return replace(row, **moved, **place)


def _gauges(arm: LiveArm, row: ReplicaSample) -> ReplicaSample:
    """Engines tell no queue age; a scrape lands a little after the second."""
    if not arm.live:
        return replace(row, prefix_hit_tokens=round(arm.hit * row.prefix_query_tokens))
    hits = round(arm.hit * row.prefix_query_tokens)
    return replace(row, t_us=row.t_us + 3_000 + row.replica_id, queue_age_us=None, prefix_hit_tokens=hits)


def _live_facts(arm: LiveArm) -> dict[str, Any]:
    replicas = range(REPLICAS)
    at_work = {"nginx": "round robin, weighted"}.get(arm.gateway, arm.policy)
    gateway = {
        "name": arm.gateway or "stampede",
        "version": VERSIONS[arm.gateway],
        "policy": arm.policy,
        "reported_policy": at_work,
        "arm": arm.arm,
        "cpu_s": None if arm.gateway == "direct" else 1.5,
        "memory_bytes": None if arm.gateway == "direct" else 26_000_000,
        "command": ["nginx"],
        "rewriting": REWRITING if arm.gateway == "nginx" else None,
    }
    flushed = [
        {"replica_id": r, "prompt_tokens": 256, "cached_first": 0, "cached_again": 240, "cached_after": 0, "took_s": 0.1}
        for r in replicas
    ]
    return {
        "driver": "wall",
        "senders": [{"sender": 0, "read_lag_p50_s": 0.001, "read_lag_p99_s": 0.004, "read_lag_max_s": 0.1, "facts": {}}],
        "void": "",
        "gateway": gateway,
        "flushed": [] if arm.pairs else flushed,
        "scrape": {"missed": {str(r): int(r == 1) for r in replicas}},
        "prefix": {str(r): {"hit_tokens": round(1000 * arm.hit), "query_tokens": 1000} for r in replicas},
        "engines": [{"replica_id": r, "engine": arm.served_by, "version": "1.2", "url": f"http://h:{r}"} for r in replicas],
    }


def _write_samples(folder: Path) -> None:
    seconds = range(160)
    gateway = {"t_us": [t * 1_000_000 for t in seconds], "cpu_s": [0.2 * t for t in seconds], "memory_bytes": [26_000_000] * 160}
    pq.write_table(pa.table(gateway), folder / "gateway_samples.parquet")
    card = {"t_us": [t * 1_000_000 for t in seconds], "card": ["0"] * 160, "busy": [0.5] * 160}
    pq.write_table(
        pa.table(card | {"memory_used_bytes": [10**9] * 160, "memory_bytes": [2 * 10**9] * 160}), folder / "gpu_samples.parquet"
    )


def _engines(arms: Sequence[LiveArm]) -> list[dict[str, Any]]:
    pools = {arm.pool: arm.served_by for arm in arms if arm.live}
    return [
        {"pool": pool, "id": r, "engine": engine, "version": "1.2", "command": ["python", "-m", engine], "ready_after_s": 30.0}
        for pool, engine in pools.items()
        for r in range(REPLICAS)
    ]
