"""Fact 4: sglang-router's `power_of_two` compares loads that it polls from `/get_load`; without that path it is random.

vLLM lacks the path. It does not look at what the rule does with stale loads. vllm-router counts for itself: the control.
"""

import asyncio
from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour

NAME = "power_of_two_without_loads"
GATEWAYS = ("sglang_router", "vllm_router")
LONG, SHORT, LONG_S, POLL_S = 40, 60, 30.0, 6.0
HALF = (0.25, 0.75)  # 60 fair draws fall outside once in 10,000 runs


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """Two replicas, one with long requests open: the share of short ones that it gets still, with and without `/get_load`."""
    return [await _share(gateway, folder / "without", False), await _share(gateway, folder / "with", True)]


async def _share(gateway: Gateway, folder: Path, knows_load: bool) -> Measured:
    quick, slow = Behaviour(knows_load=knows_load), Behaviour(first_s=LONG_S, knows_load=knows_load)
    async with running(gateway, Setting("power_of_two", replicas=2, behaviour=quick), folder) as (process, stubs):
        stubs[0].behaviour = slow
        long = [asyncio.create_task(ask_once(process.url, PATH, completion(i))) for i in range(LONG)]
        await asyncio.sleep(POLL_S)
        before = len(stubs[0].asked)
        stubs[0].behaviour = quick
        for i in range(SHORT):  # one by one, so that what they add themselves is nothing
            await ask_once(process.url, PATH, completion(LONG + i))
        share = (len(stubs[0].asked) - before) / SHORT
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        told = "which tell their load" if knows_load else "which do not tell"
        name = f"share of {SHORT} requests that went to the loaded one of two replicas, {told}"
        return Subject(NAME, process).found(name, share, "share", *_judged(gateway, knows_load, share))


def _judged(gateway: Gateway, knows_load: bool, share: float) -> tuple[str, bool]:
    if gateway.name != "sglang_router":
        return "none: it counts for itself", share == 0.0
    if knows_load:
        return f"under {HALF[0]:g}: it polls", share < HALF[0]
    return "half, as by chance", HALF[0] <= share <= HALF[1]
