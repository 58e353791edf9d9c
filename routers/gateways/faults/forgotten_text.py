"""Whether an idle `cache_aware` finds the replica that has a prompt, told as text or as token ids. vllm-router 0.1.17 finds none
for text, and sglang-router 0.3.2 refuses token ids. It asks nothing of a real cache: the stubs hold none.
"""

import asyncio
from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour, StubReplica

NAME = "forgotten_text"
GATEWAYS = ("sglang_router", "vllm_router")
PROMPTS, REPLICAS, ANSWER_S = 16, 4, 0.5
BY_CHANCE = PROMPTS // 2


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """`PROMPTS` prompts at once spread over `REPLICAS`; then again, one by one: how many return to the replica that had them."""
    rows = []
    for form, as_text in (("text", True), ("token ids", False)):
        setting = Setting("cache_aware", replicas=REPLICAS, behaviour=Behaviour(first_s=ANSWER_S))
        async with running(gateway, setting, folder / form) as (process, stubs):
            bodies = [completion(i, as_text) for i in range(PROMPTS)]
            firsts = await asyncio.gather(*(ask_once(process.url, PATH, body) for body in bodies))
            subject = Subject(NAME, process)
            refused = sum(not a.ok for a in firsts)
            if refused:
                claim = f"all {PROMPTS}, with HTTP 422" if gateway.name == "sglang_router" and not as_text else "none"
                holds = claim != "none" and [a.status for a in firsts] == [422] * PROMPTS
                rows.append(subject.found(f"prompts as {form} refused, of {PROMPTS}", refused, "requests", claim, holds))
                continue
            had = _places(stubs)
            await _again(process.url, bodies, stubs)
            back = sum(_places(stubs)[prompt] == place for prompt, place in had.items())
            forgets = gateway.name == "vllm_router" and as_text
            claim = f"at most {BY_CHANCE}: forgotten" if forgets else f"all {PROMPTS}: remembered"
            name = f"prompts as {form} that return to their replica, of {PROMPTS}"
            rows.append(subject.found(name, back, "requests", claim, back <= BY_CHANCE if forgets else back == PROMPTS))
    return rows


async def _again(url: str, bodies: list[dict[str, object]], stubs: list[StubReplica]) -> None:
    for stub in stubs:
        stub.asked.clear()
        stub.behaviour = Behaviour()
    for body in bodies:
        await ask_once(url, PATH, body)


def _places(stubs: list[StubReplica]) -> dict[str, int]:
    return {str(asked.json["prompt"]): place for place, stub in enumerate(stubs) for asked in stub.asked}
