"""The architecture's spike, kept: the same client, router, policy and guard objects run in virtual time and in wall time.

Prequal (probes), a LIFO queue with deadlines, a router-side retry that excludes a replica, and a prefill/decode pair go
through `replay.virtual` and, over loopback HTTP, through `replay.live`.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from replay.cell import Cell
from replay.live import LiveRun
from replay.recorder import Recorder
from replay.retry import RetryRule
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from replicas.served import ServedReplica
from tests.replay.scenes import cell, single_turns
from workloads.request import Request, Segment
from workloads.workload import Workload


def profile_of(a_cell: Cell) -> EngineProfile:
    return EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)


def virtually(a_cell: Cell, workload: Workload) -> tuple[Recorder, dict[str, int]]:
    recorder = Recorder()
    run = VirtualRun(a_cell, workload, profile_of(a_cell), recorder)
    run.run()
    return recorder, run.client.counts


def over_loopback(a_cell: Cell, workload: Workload) -> tuple[Recorder, dict[str, int]]:
    async def go() -> tuple[Recorder, dict[str, int]]:
        epoch_s = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            served = [
                await stack.enter_async_context(ServedReplica(profile_of(a_cell), epoch_s)) for _ in range(a_cell.pool.replicas)
            ]
            recorder = Recorder()
            run = LiveRun(a_cell, workload, [s.port for s in served], recorder, asyncio.get_running_loop().time())
            await run.run()
            return recorder, run.client.counts

    return asyncio.run(go())


SOON = [0.3 + 0.05 * i for i in range(12)]
DRIVERS = pytest.mark.parametrize("drive", [virtually, over_loopback])


@DRIVERS
def test_a_plain_request_goes_through(drive) -> None:  # type: ignore[no-untyped-def]
    recorder, counts = drive(cell(), single_turns([0.0, 0.05, 0.1, 0.15]))
    assert counts["ok"] == counts["scheduled"] == 4
    assert [r.replica_id for r in recorder.attempts] == [0, 1, 0, 1]
    assert [r.cached_tokens for r in recorder.attempts] == [0, 0, 64, 64]  # the system prompt's four blocks


@DRIVERS
def test_prequal_probes_and_avoids_the_busy_replica(drive) -> None:  # type: ignore[no-untyped-def]
    # One huge prompt occupies a replica for seconds; the small requests behind it go where the probes see nobody.
    huge = Request(0, 0, 0, 0.2, None, (Segment(1, 60_000),), 2, 4, 0)
    small = [replace(r, request_id=1 + i, session_id=1 + i) for i, r in enumerate(single_turns(SOON).requests)]
    workload = single_turns(SOON).sending((huge, *small))
    recorder, counts = drive(cell("prequal"), workload)
    assert counts["ok"] == 1 + len(SOON)
    busy = next(r.replica_id for r in recorder.attempts if r.request_id == 0)
    late = [r.replica_id for r in recorder.attempts if r.request_id > 6]  # the first few have old probes
    assert late.count(busy) <= 1
    blind, _ = drive(cell("round_robin"), workload)
    late = [r.replica_id for r in blind.attempts if r.request_id > 6]
    assert late.count(0) == late.count(1), "a blind policy sends half of them there"


@DRIVERS
def test_lifo_queue_serves_the_newest_and_refuses_what_waited_too_long(drive) -> None:  # type: ignore[no-untyped-def]
    guards = (("queue", {"cap": 1, "order": "lifo", "deadline_s": 0.6, "max_length": 10}),)
    # One request of ~0.4 s holds the only place; three more come while it runs.
    workload = single_turns([0.0, 0.05, 0.1, 0.15], output_tokens=60)
    recorder, counts = drive(cell(guards=guards, replicas=1), workload)
    served = [r.request_id for r in recorder.attempts if r.outcome == "ok"]
    refused = [r for r in recorder.attempts if r.outcome == "refused"]
    assert served[:2] == [0, 3], "after the first, the newest goes"
    assert counts["ok"] + counts["failed"] == 4
    assert counts["failed"] >= 1
    assert all(r.router_try == 0 and r.replica_id is None for r in refused)


@DRIVERS
def test_router_retry_excludes_the_replica_that_refused(drive) -> None:  # type: ignore[no-untyped-def]
    guards = (("retry", {"max_attempts": 2, "backoff_s": 0.0, "exclude": "last"}),)
    # A queue of one place on each replica: of a batch of requests at one instant, some are refused at first.
    a_cell = cell(guards=guards, changes={"max_queued": 1, "frontend_s": 0.05})
    recorder, counts = drive(a_cell, single_turns([0.0, 0.001, 0.002]))
    retried = [r for r in recorder.attempts if r.router_try == 2]
    assert retried, "the third request finds a full queue and is tried elsewhere"
    for row in retried:
        first = next(r for r in recorder.attempts if r.request_id == row.request_id and r.router_try == 1)
        assert (first.outcome, first.status) == ("refused", 503)
        assert first.replica_id != row.replica_id
        assert first.client_attempt == row.client_attempt == 1, "the client knows nothing of it"
    assert counts["scheduled"] == counts["ok"] + counts["failed"]


@DRIVERS
def test_prefill_decode_pair(drive) -> None:  # type: ignore[no-untyped-def]
    def ttft_us(transfer_s_per_token: float) -> list[int]:
        a_cell = cell("pd_pair", roles=("prefill", "decode"), changes={"kv_transfer_s_per_token": transfer_s_per_token})
        recorder, counts = drive(a_cell, single_turns([0.0, 0.5, 1.0]))
        assert counts["ok"] == 3
        assert {(r.prefill_id, r.replica_id, r.output_tokens) for r in recorder.attempts} == {(0, 1, 8)}
        return [r.first_token_us - r.scheduled_us for r in recorder.attempts]

    later_us = min(ttft_us(1e-3)) - min(ttft_us(0.0))
    assert 200_000 < later_us < 400_000, "the KV of 256 tokens takes 256 ms to arrive"


@DRIVERS
@pytest.mark.parametrize("cancel", [True, False])
def test_a_client_that_hangs_up_frees_the_replica(drive, cancel: bool) -> None:  # type: ignore[no-untyped-def]
    # A prompt of 100,000 tokens takes some 5 s in steps of 8,192 tokens, longer than the patience; a small one comes behind it.
    impatient = RetryRule("impatient", ttft_timeout_s=0.7, max_attempts=1, cancel=cancel)
    huge = Request(0, 0, 0, 0.0, None, (Segment(1, 100_000),), 2, 4, 0)
    small = replace(single_turns([1.8]).requests[0], request_id=1, session_id=1)
    workload = single_turns([1.8]).sending((huge, small))
    recorder, _ = drive(cell(client=impatient, replicas=1), workload)
    outcomes = {r.request_id: r.outcome for r in recorder.attempts}
    assert outcomes == {0: "timeout", 1: "ok" if cancel else "timeout"}
