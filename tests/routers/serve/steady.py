"""The soak's steady load: our own senders on kept connections, which can go on for hours. It knows the router only by its port.

Each sender has an address of this machine to itself (127.0.0.1, 127.0.0.2, …): the ports of one last for so many broken
connections a minute only.
"""

import asyncio
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from replay.send.part import ATTEMPTS, FACTS
from replay.send.processes import ready_senders
from replay.send.self_test import planned_spec
from replay.send.spec import FREE, ROUTER
from workloads.request_table import Ints, RequestTable
from workloads.storage import write_workload
from workloads.workload import Phase, Workload

TOKENS, PROMPT_TOKENS = 16, 32
DRAIN_S = 30.0
_UNCOUNTED = "no usage in the stream"  # of a replica that gives no token counts: the answer came whole


@dataclass(frozen=True, slots=True)
class Steady:
    """What came of `asked` streams. `rows`, `ids`: their rows, and how many different streams those are of; `sent`: those that
    went out; `whole`: answered to the end; `opened`: connections; `no_socket`: how often the system had none left."""

    asked: int
    rows: int
    ids: int
    sent: int
    whole: int
    outcomes: dict[str, int]
    opened: int
    resent: int
    no_socket: int
    late_p99_s: float


async def steady_load(port: int, rps: float, seconds: float, senders: int, core: int | None = None) -> Steady:
    """Poisson arrivals of single requests, the same at every run, from senders on one core. Raises SenderFailed."""
    return await asyncio.to_thread(_steady_load, port, rps, seconds, senders, core)


def _steady_load(port: int, rps: float, seconds: float, senders: int, core: int | None) -> Steady:
    with tempfile.TemporaryDirectory() as folder, real_time():
        workload = planned(rps, seconds)
        path = str(write_workload(workload, Path(folder)))
        first = planned_spec(1.0, 1.0, f"http://127.0.0.1:{port}", Path(folder))
        cell = replace(first.cell, workload=path, drain_s=DRAIN_S)
        like = replace(first, cell=cell, senders=senders, target=ROUTER, length=FREE, core=core)
        specs = [replace(like, sender=i, urls=(f"http://127.0.0.{1 + i}:{port}",)) for i in range(senders)]
        with ready_senders(specs, Path(folder)) as ready:
            ready.begin()
            parts = ready.wait(margin_s=60.0)
        return _counted(len(workload.table), parts)


@contextmanager
def real_time() -> Iterator[None]:
    """What this thread starts comes before others' work, where the system lets it."""
    before = os.sched_getscheduler(0)
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


def planned(rps: float, seconds: float) -> Workload:
    """Straight into columns: ten minutes of it are a million requests."""
    n = round(rps * seconds)
    times = np.cumsum(np.random.default_rng(11).exponential(1 / rps, n + 1))
    ids = np.arange(n, dtype=np.int64)

    def every(value: int) -> Ints:
        return np.full(n, value, dtype=np.int64)

    table = RequestTable(
        session_id=ids,
        turn=every(0),
        arrival_us=(times[:-1] * (seconds / times[-1]) * 1e6).astype(np.int64),  # all before the end
        think_us=every(-1),
        prompt_tokens=every(PROMPT_TOKENS),
        reply_id=9_000_000_000 + ids,
        output_tokens=every(TOKENS),
        tenant=every(0),
        deadline_us=every(-1),
        extends=np.zeros(n, dtype=np.bool_),
        new_bounds=np.arange(n + 1, dtype=np.int64),
        new_ids=1_000 + ids,
        new_tokens=every(PROMPT_TOKENS),
    )
    return Workload("soak", 0, (Phase("steady", seconds, rps),), table, {})


def _counted(asked: int, parts: list[Path]) -> Steady:
    rows = pq.ParquetDataset([part / ATTEMPTS for part in parts]).read()
    facts = [json.loads((part / FACTS).read_text()) for part in parts]
    whole = pc.or_(pc.equal(rows["outcome"], "ok"), pc.starts_with(rows["error"], _UNCOUNTED))
    said = pc.value_counts(pc.binary_join_element_wise(rows["outcome"], pc.utf8_slice_codeunits(rows["error"], 0, 24), " "))
    late_us = pc.subtract(rows["sent_us"], rows["scheduled_us"]).drop_null().to_numpy()
    return Steady(
        asked=asked,
        rows=rows.num_rows,
        ids=len(pc.unique(rows["request_id"])),
        sent=rows.num_rows - rows["sent_us"].null_count,
        whole=pc.sum(whole).as_py(),
        outcomes={item["values"]: item["counts"] for item in said.to_pylist()},
        opened=sum(f["facts"].get("opened", 0) for f in facts),
        resent=sum(f["facts"].get("resent", 0) for f in facts),
        no_socket=sum(f["facts"].get("no_socket", 0) for f in facts),
        late_p99_s=float(np.quantile(late_us, 0.99)) / 1e6,
    )
