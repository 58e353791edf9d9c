"""One hand-made cell of nine requests whose every number can be worked out in the head."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from replay.rows import Attempt, ReplicaSample
from tests.reports.run_folder import write_rows

PROMPT, CACHED = 100, 40
SLO = "slo: {ttft_s: 1.0, tpot_s: 0.1, e2e_s: 30.0}\n"
PHASES = (("steady", 0.0, 10.0), ("trigger", 10.0, 14.0), ("recovery", 14.0, 20.0))


def timeout(request_id: int, attempt: int, at_s: float, end_s: float, **changes: Any) -> Attempt:
    """An attempt given up at `end_s`; the engine works 4 s longer and decodes 5 tokens for nobody."""
    row = Attempt(
        request_id=request_id,
        attempt=attempt,
        client_attempt=attempt,
        router_try=1,
        replica_id=0,
        prefill_id=None,
        scheduled_us=_us(at_s),
        sent_us=_us(at_s),
        first_token_us=None,
        ended_us=_us(end_s),
        engine_ended_us=_us(end_s + 4),
        max_gap_us=None,
        prompt_tokens=PROMPT,
        cached_tokens=CACHED,
        prefilled_tokens=PROMPT - CACHED,
        decoded_tokens=5,
        output_tokens=0,
        outcome="timeout",
        status=0,
        error="",
    )
    return replace(row, **changes)


def ok(request_id: int, attempt: int, at_s: float, ttft_s: float, e2e_s: float, output: int = 11) -> Attempt:
    """An answer; `ttft_s` and `e2e_s` count from this attempt's own start."""
    end_us, tokens = _us(at_s + e2e_s), {"decoded_tokens": output, "output_tokens": output}
    times = {"first_token_us": _us(at_s + ttft_s), "engine_ended_us": end_us, "max_gap_us": 100_000}
    return timeout(request_id, attempt, at_s, at_s + e2e_s, **times, **tokens, outcome="ok", status=200)


def waiting(request_id: int, attempt: int, due_s: float) -> Attempt:
    """A request whose next attempt was not due yet when the run ended."""
    nothing = dict.fromkeys(("sent_us", "ended_us", "engine_ended_us", "replica_id"))
    no_work = dict.fromkeys(("client_attempt", "router_try", "cached_tokens", "prefilled_tokens", "decoded_tokens"), 0)
    return timeout(request_id, attempt, due_s, due_s, **nothing, **no_work, outcome="censored")


def rows() -> list[Attempt]:
    """Seven requests of the steady phase, one of the trigger, one that its session never sent."""
    nothing = dict.fromkeys(("sent_us", "ended_us", "engine_ended_us", "replica_id"))
    no_work = dict.fromkeys(("router_try", "cached_tokens", "prefilled_tokens", "decoded_tokens"), 0)
    return [
        ok(0, 1, 1.0, ttft_s=0.5, e2e_s=1.5),  # TPOT .1
        timeout(1, 1, 2.0, 7.0),
        ok(1, 2, 8.0, ttft_s=0.5, e2e_s=1.5),  # TTFT 6.5: from the first attempt
        timeout(2, 1, 3.0, 8.0),
        timeout(2, 2, 9.0, 14.0, replica_id=1),
        timeout(3, 1, 4.0, 0.0, ended_us=None, engine_ended_us=None, outcome="censored"),
        ok(4, 1, 5.0, ttft_s=0.25, e2e_s=0.25, output=1),  # one token: no TPOT, met
        ok(5, 1, 6.0, ttft_s=1.0, e2e_s=2.0),  # exactly at the limits of TTFT and TPOT: met
        ok(6, 1, 7.0, ttft_s=0.5, e2e_s=2.5),  # TPOT .2: missed
        timeout(7, 1, 12.0, 12.0, **{**nothing, **no_work, "ended_us": 12_000_000, "outcome": "refused", "status": 429}),
        timeout(8, 0, 0.0, 0.0, **nothing, **no_work, scheduled_us=None, client_attempt=0, prompt_tokens=0, outcome="abandoned"),
    ]


def facts(**changes: Any) -> dict[str, Any]:
    """The cell's cell.json."""
    counts = {"planned": 10, "scheduled": 9, "ok": 5, "failed": 2, "abandoned": 1, "censored": 1, "not_due": 1}
    names = ("guard", "client", "engine", "pool", "workload")
    return {
        **dict.fromkeys(names, "some"),
        "cell_id": "arm-s1",
        "arm_id": "arm",
        "router": "random",
        "load_rps": 0.7,
        "trigger": {"kind": "spike", "k": 2.0, "d_s": 4.0},
        "seed": 1,
        "replicas": 4,
        "driver": "virtual",
        "phases": [{"name": name, "start_s": start, "end_s": end, "load_rps": 0.7} for name, start, end in PHASES],
        "drain_s": 5.0,
        "workload_hash": "small",
        "counts": counts,
        "conserved": True,
        "code_hash": "made-up",
        "cpu_s": 0.1,
        "spec": {"router": {"name": "random"}, "guards": []},
        **changes,
    }


def samples() -> list[ReplicaSample]:
    """Two replicas at seconds 0, 1 and 2; replica 1 finds half of its prompts in the cache."""
    return [
        ReplicaSample(t * 1_000_000, r, running=r + 1, waiting=t, kv_used=0.5, prefix_hit_tokens=50 * r * t,
                      prefix_query_tokens=100 * t, preemptions=0, queue_age_us=t * 500_000)
        for t in range(3)
        for r in range(2)
    ]  # fmt: skip


def small_run(run: Path, attempts: list[Attempt] | None = None, **changes: Any) -> Path:
    """A run folder that holds the cell; `attempts` and `changes` of its cell.json tamper with it."""
    (run / "workloads").mkdir(parents=True, exist_ok=True)
    ids = list(range(10))
    plan = {"request_id": ids, "session_id": [i // 2 for i in ids], "turn": [i % 2 for i in ids], "tenant": [0] * 10}
    tokens = {"prompt_tokens": [PROMPT] * 10, "output_tokens": [11] * 10}
    pq.write_table(pa.table({**plan, **tokens}), run / "workloads" / "small.parquet")
    write_rows(run, facts(**changes), rows() if attempts is None else attempts, samples())
    (run / "study.yaml").write_text(SLO)
    return run


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
