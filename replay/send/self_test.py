"""Tries the sender on a stub whose timing is known, as it will run afterwards. It does not know any engine.

`python -m replay.send.self_test [--out FILE]` prints one JSON object; exit code 1 where the sender misses its limits.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from replay.cell import Cell, Named, PoolSpec, SessionRule
from replay.observation import ObservationRule
from replay.retry import RetryRule
from replay.send.part import ATTEMPTS, FACTS
from replay.send.processes import ready_senders
from replay.send.spec import SendSpec
from workloads.request import Request, Segment
from workloads.storage import write_workload
from workloads.workload import Phase, Workload

_CHUNKS = 16
_WARM_SHARE = 0.1  # of the requests, at the start: they open the connections


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sender must keep to, in seconds: p50 and p99 of its errors, and the drift of the send error over the test."""

    send_p50_s: float = 0.0002
    send_p99_s: float = 0.001
    ttft_p50_s: float = 0.0005
    ttft_p99_s: float = 0.001
    drift_s: float = 0.0005


def self_test(rps: float, seconds: float, limits: Limits | None = None) -> dict[str, Any]:
    """Send `rps` requests a second to the stub and compare what sender and stub saw.

    `send_error_*`: when the stub read a request, from when it was scheduled; `ttft_error_*`: the sender's first token from its
    send, less the stub's first write from its read. `drift_s`: the last tenth's median send error less the first's. `waited_s`:
    how long the sender was ready and had no processor (a busy machine's fault). `misses` names the limits that were not kept;
    `passed`: none, and every answer was well.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory() as folder, stub_server() as url:
        spec = planned_spec(rps, seconds, url, Path(folder))
        epoch_s = send_once(spec, Path(folder))
        with urllib.request.urlopen(f"{url}/log", timeout=30) as answer:
            log = json.load(answer)
        facts = json.loads((spec.part / FACTS).read_text())
        seen = _errors(spec.part / ATTEMPTS, log, epoch_s)
    result = {"rps": rps, "requests": facts["counts"]["planned"], "ok": facts["counts"]["ok"]}
    result |= {"cpu_s_per_request": facts["cpu_s"] / facts["counts"]["planned"], "waited_s": facts["waited_s"]}
    result |= {**seen, "limits": asdict(limits)}
    pairs = {"send_p50_s": "send_error_p50_s", "send_p99_s": "send_error_p99_s", "ttft_p50_s": "ttft_error_p50_s"}
    pairs |= {"ttft_p99_s": "ttft_error_p99_s", "drift_s": "drift_s"}
    misses = [name for name, key in pairs.items() if not abs(seen[key]) <= getattr(limits, name)]
    return result | {"misses": misses, "passed": not misses and result["ok"] == result["requests"]}


@contextmanager
def stub_server() -> Iterator[str]:
    """The URL of a stub in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "replay.send.stub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as stub:
        assert stub.stdin is not None
        assert stub.stdout is not None
        try:
            yield stub.stdout.readline().strip()
        finally:
            stub.stdin.close()


def send_once(spec: SendSpec, folder: Path) -> float:
    """Run one sender process to its end; returns its epoch."""
    with ready_senders([spec], folder) as senders:
        epoch_s = senders.begin()
        senders.wait()
    return epoch_s


def _errors(attempts: Path, log: dict[str, list[float]], epoch_s: float) -> dict[str, float]:
    import numpy as np
    import pyarrow.parquet as pq

    columns = ["request_id", "client_attempt", "scheduled_us", "sent_us", "first_token_us"]
    rows = zip(*(c.to_pylist() for c in pq.read_table(attempts, columns=columns).sort_by("scheduled_us").columns), strict=True)
    send, ttft = [], []
    for request_id, attempt, scheduled_us, sent_us, first_us in rows:
        times = log.get(f"{request_id}.{attempt}", [])
        if len(times) == 3 and first_us is not None:
            send.append(times[0] - epoch_s - scheduled_us / 1e6)
            ttft.append((first_us - sent_us) / 1e6 - (times[1] - times[0]))
    warm = int(len(send) * _WARM_SHARE)
    send, ttft = send[warm:], ttft[warm:]
    if len(send) < 20:
        raise RuntimeError(f"the self-test compared {len(send)} requests; at least 20 needed")
    tenth = max(1, len(send) // 10)
    seen = {"drift_s": float(np.median(send[-tenth:]) - np.median(send[:tenth]))}
    for name, errors in (("send", send), ("ttft", ttft)):
        seen |= {f"{name}_error_p{q}_s": float(np.quantile(errors, q / 100)) for q in (50, 99)}
    return seen


def planned_spec(rps: float, seconds: float, url: str, folder: Path, prompt_tokens: int = 256) -> SendSpec:
    """Single requests of 16 tokens at even distances."""
    requests = [
        Request(i, i, 0, i / rps, None, (Segment(10_000 + i, prompt_tokens),), 9_000_000 + i, _CHUNKS, 0)
        for i in range(round(rps * seconds))
    ]
    workload = Workload.of("self-test", 0, (Phase("steady", seconds, rps),), requests, {})
    cell = Cell(
        router=Named("direct", "direct"), guards=(), guard_label="none", pool=PoolSpec("stub", 1, ""),
        client=RetryRule("patient", ttft_timeout_s=None, max_attempts=1), session=SessionRule(), workload="", workload_hash="",
        workload_label="self-test", load_rps=rps, trigger={"kind": "placebo", "k": 1.0, "d_s": 0.0},
        observation=ObservationRule(), max_tokens=_CHUNKS, drain_s=5.0, seed=0,
    )  # fmt: skip
    cell = replace(cell, workload=str(write_workload(workload, folder)))
    return SendSpec(cell, (url,), str(folder), model="stub")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m replay.send.self_test", description="Try the sender on a known stub.")
    parser.add_argument("--rps", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path, help="a file for the result, besides stdout")
    given = parser.parse_args(arguments)
    result = json.dumps(self_test(given.rps, given.seconds), indent=1)
    if given.out:
        given.out.write_text(result)
    print(result)
    return 0 if json.loads(result)["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
