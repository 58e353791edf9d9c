"""Fact 3: with a bound on requests and a queue behind it, what should wait is refused with 408 after about half a second."""

import asyncio
from collections import Counter
from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour

NAME = "queue_refuses"
GATEWAYS = ("sglang_router", "vllm_router")
AT_ONCE, RUNNING, QUEUE, ANSWER_S = 10, 2, 10, 1.0
LUCKY = 2  # one or two may catch what the bound's bucket refills just before they are refused


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """`AT_ONCE` requests together, where `RUNNING` may run and `QUEUE` may wait (60 s); each takes a replica `ANSWER_S`."""
    bounds = (("max_concurrent_requests", RUNNING), ("queue_size", QUEUE))
    setting = Setting("round_robin", parameters=bounds, behaviour=Behaviour(first_s=ANSWER_S))
    async with running(gateway, setting, folder) as (process, _):
        answers = await asyncio.gather(*(ask_once(process.url, PATH, completion(i)) for i in range(AT_ONCE)))
        statuses = Counter(a.status for a in answers)
        late_s = [a.ended_s for a in answers if a.status == 408]
        subject = Subject(NAME, process)
        due, refused = AT_ONCE - RUNNING, statuses[408]
        claim = f"{due - LUCKY} of the {due} that should wait, or more"
        rows = [subject.found(f"408s among {AT_ONCE} at once", refused, "requests", claim, refused >= due - LUCKY)]
        if late_s:
            rows.append(subject.found("time to a 408", max(late_s), "s", "under 1 s of the 60 s allowed", max(late_s) < 1.0))
        return [*rows, subject.found("answered", statuses[200], "requests")]
