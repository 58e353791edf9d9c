"""Fact 2: "5 retries" are five attempts within about 0.4 s, under no budget, and sticky rules send all five to one replica."""

from pathlib import Path

from routers.gateways.ask import ask_once
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour

NAME = "retry_storm"
GATEWAYS = ("sglang_router", "vllm_router")
STICKY = {"sglang_router": ("cache_aware", "manual"), "vllm_router": ("cache_aware", "consistent_hash", "sticky_least_sessions")}
ATTEMPTS, WITHIN_S = 5, 1.5


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """One request to replicas that answer 503: attempts, the time between the first and the last, replicas tried."""
    rows = await _one_request(gateway, "round_robin", folder)
    for policy in STICKY[gateway.name]:
        rows += await _one_request(gateway, policy, folder)
    return rows


async def _one_request(gateway: Gateway, policy: str, folder: Path) -> list[Measured]:
    async with running(gateway, Setting(policy, behaviour=Behaviour(status=503)), folder / policy) as (process, stubs):
        await ask_once(process.url, PATH, completion(1), {gateway.session_header: "s1"})
        times = sorted(asked.at_s for stub in stubs for asked in stub.asked)
        tried = sum(bool(stub.asked) for stub in stubs)
        span_s = times[-1] - times[0] if times else 0.0
        subject = Subject(NAME, process)
        sticky = policy != "round_robin"
        return [
            subject.found("attempts for one request", len(times), "attempts", f"{ATTEMPTS} in total", len(times) == ATTEMPTS),
            subject.found("time from first to last attempt", span_s, "s", f"under {WITHIN_S:g} s", 0 < span_s < WITHIN_S),
            subject.found("replicas tried", tried, "replicas", "one" if sticky else "", tried == 1 if sticky else None),
        ]
