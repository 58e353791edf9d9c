"""A small probe: two derated replicas, three routers, an impatient client, and the asks that tests make of it."""

import json
from functools import cache
from pathlib import Path

from flows.load_study import load_study
from flows.probe.run_cell import Scene, run_cell
from flows.study import Study
from flows.workload_plan import read_trace
from reports.probe.asks import Answer, Ask

STUDY = """
name: small
workload: {trace: synthetic, select: {input_tokens: [null, 4096], output_tokens: [null, 512]}}
load: {rps: 14}
phases: {warmup_s: 15, steady_s: 20, recovery_s: 60, drain_s: 10}
trigger: {kind: spike, k: 3, d_s: 15}
pool: {replicas: 2, profile: h100-vllm-llama8b, changes: {max_running: 24, kv_blocks: 3072, context_tokens: 8192}}
routers: [least_outstanding, session_affinity, prequal]
guards:
  - {label: none, guards: []}
  - {label: limited, guards: [{name: breaker}, {name: concurrency, parameters: {per_replica: 40}}]}
client: [{name: "4 attempts", ttft_timeout_s: 10, max_attempts: 4, cancel: false}]
slo: {ttft_s: 5.0, tpot_s: 0.1, e2e_s: null}
seeds: 1
probe:
  fractions: [0.7]
  calm_s: 40
  lengths_s: [15]
  cures: [{label: throttled, guards: [client_throttle]}]
"""
PLACEBO = json.dumps({"d_s": 15.0, "k": 1.0, "kind": "placebo"}, sort_keys=True)
C_REF_RPS = 14.0


@cache
def study() -> Study:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.yaml"
        path.write_text(STUDY)
        return load_study(str(path))


def scene(cells: Path) -> Scene:
    return Scene(study(), read_trace(study()), C_REF_RPS, cells)


def spike(k: float) -> str:
    return json.dumps({"d_s": 15.0, "k": k, "kind": "spike"}, sort_keys=True)


def ask(phase: str = "frontier", k: float = 0.0, router: str = "least_outstanding", **other: object) -> Ask:
    """A cell at 70% of C_ref; without a size, undisturbed."""
    made: dict[str, object] = {
        "phase": phase,
        "router": router,
        "guard": "none",
        "variant": "",
        "load_rps": 9.8,
        "trigger": spike(k) if k else PLACEBO,
        "pieces": (),
        "seed": 1,
    }
    return Ask(**{**made, **other})  # type: ignore[arg-type]


def calm(a_scene: Scene, seeds: int = 2, **other: object) -> list[Answer]:
    """Undisturbed cells of an arm."""
    return [run_cell(a_scene, ask("placebo", seed=seed, **other), ()) for seed in range(1, seeds + 1)]  # type: ignore[arg-type]
