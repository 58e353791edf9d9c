"""Fact 5: an idle `cache_aware` sends everything to one replica, however little the prompts share."""

from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running

NAME = "idle_pile"
GATEWAYS = ("sglang_router", "vllm_router")
CONVERSATIONS, REPLICAS = 80, 4


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """`CONVERSATIONS` prompts that share nothing, one after the other: how many the busiest of `REPLICAS` gets."""
    async with running(gateway, Setting("cache_aware", replicas=REPLICAS), folder) as (process, stubs):
        for i in range(CONVERSATIONS):
            await ask_once(process.url, PATH, completion(i))
        most = max(len(stub.asked) for stub in stubs)
        claim = f"all {CONVERSATIONS}"
        name = f"requests to the busiest of {REPLICAS} replicas, of {CONVERSATIONS}"
        return [Subject(NAME, process).found(name, most, "requests", claim, most == CONVERSATIONS)]
