"""A pool of served replicas, and cells for it: short runs at low load in which one thing happens."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from replay.cell import Cell, Named
from replay.measured import Place
from replay.retry import RetryRule
from replicas.launch.pool import Pool
from replicas.launch.spec import EngineSpec
from tests.replay.scenes import cell
from workloads.events import Event
from workloads.request import Request, Segment
from workloads.storage import workload_hash, write_workload
from workloads.workload import Phase, Workload

SERVER = (sys.executable, "-m", "flows.cli", "serve", "replica")
ROUTER = (sys.executable, "-m", "flows.cli", "serve", "router")
PATIENT = RetryRule("patient", ttft_timeout_s=None, max_attempts=1)


def served_spec(**limits: Any) -> EngineSpec:
    """A simulated replica on an H100's profile, small enough to fill."""
    wanted = {"context_tokens": 4096, "kv_tokens": 65_536, **limits}
    return EngineSpec(engine="served", profile="h100-vllm-llama8b", server=SERVER, served_name="tiny", **wanted)


def talks(
    sessions: int, every_s: float, turns: int = 3, think_s: float = 1.0, end_s: float = 8.0, output_tokens: int = 16
) -> Workload:
    """Conversations that begin at even distances; each has a long opening of its own, so affinity pays."""
    requests: list[Request] = []
    for session in range(sessions):
        segments: tuple[Segment, ...] = (Segment(7, 64), Segment(100_000 + session, 640))
        for turn in range(turns):
            segments = (*segments, Segment(200_000 + 100 * session + turn, 32))
            reply, number = 9_000_000 + 100 * session + turn, len(requests)
            at_s, think = (session * every_s, None) if turn == 0 else (None, think_s)
            requests.append(Request(number, session, turn, at_s, think, segments, reply, output_tokens, 0))
            segments = (*segments, Segment(reply, output_tokens))
    return Workload.of("talks", 1, (Phase("steady", end_s, 1 / every_s),), requests, {})


def live_cell(workload: Workload, folder: Path, router: Named, events: Sequence[Event] = (), **changes: Any) -> Cell:
    """A cell of two live replicas; the workload is written into `folder`."""
    planned = replace(workload, events=tuple(events))
    base = cell(client=changes.pop("client", PATIENT))
    pool = replace(base.pool, engine="served", live={"engine": "served"}, replicas=changes.pop("replicas", 2))
    path = write_workload(planned, folder)
    return replace(
        base, router=router, pool=pool, workload=str(path), workload_hash=workload_hash(planned), **{"drain_s": 10.0, **changes}
    )


def place(pool: Pool, **changes: Any) -> Place:
    return Place(**{"pool": pool, "model": "tiny", "router_command": ROUTER, "lag_limit_s": 0.5, **changes})
