"""Fact 1: after one burst of 503s every breaker is open, and healthy replicas are refused for as long as breakers stay open.

As the wheels come that is 60 s; how long is measured with a shorter time set, not by waiting.
"""

import asyncio
from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import ARMS, Gateway
from routers.gateways.process import GatewayProcess
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour, StubReplica

NAME = "breaker_lockout"
GATEWAYS = ("sglang_router", "vllm_router")
BURST, AFTER, AT_ONCE = 30, 40, 10
SHORT_S, PATIENCE_S = 4, 20.0


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """A burst of `BURST` requests while all replicas answer 503, then `AFTER` to healthy ones, ten by ten; both arms."""
    rows = []
    for arm in ARMS:
        async with running(gateway, _refusing(arm), folder / arm) as (process, stubs):
            reached = await _burst(process, stubs)
            refused = sum([await _refused(process.url, BURST + first) for first in range(0, AFTER, AT_ONCE)])
            subject = Subject(NAME, process)
            rows.append(subject.found(f"attempts that {BURST} refused requests cost the replicas", reached, "requests"))
            claim, holds = (f"all {AFTER}", refused == AFTER) if arm == "default" else ("none: it recovers at once", refused == 0)
            rows.append(subject.found(f"503s among {AFTER} requests to healthy replicas", refused, "requests", claim, holds))
    return [*rows, await _lockout(gateway, folder / "short")]


async def _lockout(gateway: Gateway, folder: Path) -> Measured:
    """The time from the burst's end to the first answer, with the breakers set to stay open `SHORT_S`."""
    loop = asyncio.get_running_loop()
    async with running(gateway, _refusing("default", cb_timeout_duration_secs=SHORT_S), folder) as (process, stubs):
        await _burst(process, stubs)
        begun_s = loop.time()
        answered = False
        while not answered and loop.time() < begun_s + PATIENCE_S:
            answered = (await ask_once(process.url, PATH, completion(BURST))).ok
        lasted_s = loop.time() - begun_s
        claim = f"{SHORT_S} s, as set, within 2 s"
        name = f"time to the first answer of healthy replicas, breakers open {SHORT_S} s"
        holds = answered and SHORT_S - 2.0 <= lasted_s <= SHORT_S + 2.0
        return Subject(NAME, process).found(name, lasted_s, "s", claim, holds)


def _refusing(arm: str, **parameters: object) -> Setting:
    return Setting("cache_aware", arm, tuple(parameters.items()), behaviour=Behaviour(status=503))


async def _burst(process: GatewayProcess, stubs: list[StubReplica]) -> int:
    """The burst, after which the replicas are healthy; returns how many requests reached them."""
    await asyncio.gather(*(ask_once(process.url, PATH, completion(i)) for i in range(BURST)))
    for stub in stubs:
        stub.behaviour = Behaviour()
    return sum(len(stub.asked) for stub in stubs)


async def _refused(url: str, first: int) -> int:
    answers = await asyncio.gather(*(ask_once(url, PATH, completion(first + i)) for i in range(AT_ONCE)))
    return sum(a.status == 503 for a in answers)
