"""What a router decided in one clock it decides again in no clock at all, fed with the inputs that the driver wrote down."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from replay.cell import Cell
from replay.live import LiveRun
from replay.observation import ObservationRule
from replay.recorder import Recorder
from replay.virtual import VirtualRun
from replicas.profile import EngineProfile
from replicas.served import ServedReplica
from replicas.view import ReplicaView
from routers.factory import build_router
from routers.input_log import Input, Refeed
from tests.replay.scenes import cell, single_turns
from workloads.workload import Workload


def profile_of(a_cell: Cell) -> EngineProfile:
    return EngineProfile.load(a_cell.pool.profile).with_changes(a_cell.pool.changes)


def virtually(a_cell: Cell, workload: Workload) -> tuple[list[list[Input]], Recorder]:
    recorder = Recorder()
    run = VirtualRun(a_cell, workload, profile_of(a_cell), recorder, record_inputs=True)
    run.run()
    return run.inputs, recorder


def over_loopback(a_cell: Cell, workload: Workload) -> tuple[list[list[Input]], Recorder]:
    async def go() -> tuple[list[list[Input]], Recorder]:
        recorder = Recorder()
        async with AsyncExitStack() as stack:
            epoch_s = asyncio.get_running_loop().time()
            served = [
                await stack.enter_async_context(ServedReplica(profile_of(a_cell), epoch_s)) for _ in range(a_cell.pool.replicas)
            ]
            ports, now_s = [s.port for s in served], asyncio.get_running_loop().time()
            run = LiveRun(a_cell, workload, ports, recorder, now_s, profile=profile_of(a_cell), record_inputs=True)
            await run.run()
        return run.inputs, recorder

    return asyncio.run(go())


def again(a_cell: Cell, logs: list[list[Input]]) -> list[Refeed]:
    """Each router's log, lived again by a router built alike."""
    refeeds = [Refeed(log) for log in logs]
    for number, refeed in enumerate(refeeds):
        guards = [(g.name, g.parameters) for g in a_cell.guards]
        views = [ReplicaView(i, role=role) for i, role in enumerate(a_cell.pool.all_roles())]
        name, parameters, profile = a_cell.router.name, a_cell.router.parameters, profile_of(a_cell)
        refeed.run(
            build_router(name, parameters, guards, views, refeed, a_cell.seed, profile=profile, number=number, of=len(logs))
        )
    return refeeds


BUSY = [0.2 + 0.02 * i for i in range(40)]
QUEUE = ("queue", {"cap": 6, "max_length": 10, "order": "lifo", "deadline_s": 0.5})
RETRY = ("retry", {"exclude": "last"})


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("policy", ["least_outstanding", "power_of_two", "prequal", "cache_aware", "round_robin"])
@pytest.mark.parametrize("drive", [virtually, over_loopback])
def test_one_log_gives_the_same_decisions(drive, policy: str, routers: int) -> None:  # type: ignore[no-untyped-def]
    a_cell = replace(cell(policy, (QUEUE, RETRY)), observation=ObservationRule(age_s=0.2, routers=routers))
    logs, recorder = drive(a_cell, single_turns(BUSY))
    refeeds = again(a_cell, logs)
    decided = [(r.request_id, r.router_try, r.replica_id) for r in recorder.attempts if r.router_try]
    assert sorted((t.request.request_id, t.router_try, t.replica_id) for f in refeeds for t in f.sent) == sorted(decided)
    cancelled = sum(e.name == "on_cancel" for log in logs for e in log)
    assert sum(len(f.answered) for f in refeeds) + cancelled >= len(BUSY)
    assert all({e.name for e in log} >= {"on_request", "on_try_end", "on_observation"} for log in logs)
