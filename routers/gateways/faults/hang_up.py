"""Fact 6: a client that hangs up ends its request at the replica. It was not tried with pairs of prefill and decode replicas."""

import asyncio
from collections.abc import Callable
from math import inf
from pathlib import Path

from routers.gateways.ask import Caller
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour

NAME = "hang_up_cancels"
WHEELS = ("sglang_router", "vllm_router")
GATEWAYS = ("sglang_router", "vllm_router", "nginx", "haproxy", "envoy")
WAIT_S = 5.0


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """A stream is left after its first chunk, and a request before it: when the replica sees its caller go (inf: not within
    `WAIT_S`). The claim is the wheels'; HAProxy as it comes passes nothing on before the replica answers."""
    rows = []
    async with running(gateway, Setting("round_robin", replicas=1), folder) as (process, (stub,)):
        subject = Subject(NAME, process)
        for when, behaviour in (
            ("in the stream", Behaviour(gap_s=0.05, chunks=400)),
            ("before its first chunk", Behaviour(first_s=20.0)),
        ):
            stub.behaviour = behaviour
            stub.asked.clear()
            async with Caller(process.url) as caller:
                asking = asyncio.create_task(caller.ask(PATH, completion(1)))
                await asyncio.sleep(0.5)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            seen_s = await _until_gone(lambda: bool(stub.asked) and stub.asked[0].hung_up)
            claim, holds = ("within 1 s", seen_s < 1.0) if gateway.name in WHEELS else ("", None)
            rows.append(subject.found(f"hang-up {when} reaches the replica after", seen_s, "s", claim, holds))
    return rows


async def _until_gone(gone: Callable[[], bool]) -> float:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    while not gone() and loop.time() < begun_s + WAIT_S:
        await asyncio.sleep(0.01)
    return loop.time() - begun_s if gone() else inf
