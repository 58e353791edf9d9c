"""Fact 8: sglang-router adds some 24 to 44 ms to TTFT unless the client acknowledges at once, as Nagle's rule and delayed
acknowledgements make together. The gateway's cost is measured apart: against the same stub without it. It says nothing of load.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median

from routers.gateways.ask import Answer, Caller
from routers.gateways.faults.measured import Measured, Subject
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour, StubReplica

NAME = "added_ttft"
GATEWAYS = ("sglang_router", "vllm_router", "nginx", "haproxy", "envoy")
PACES = {
    "paced streams": Behaviour(first_s=0.02, gap_s=0.01, chunks=8, headers_first=True),
    "unpaced streams": Behaviour(chunks=8),
}
STREAMS, WARM = 20, 3
LATE_S = 0.010  # added by waiting for an acknowledgement, not by work


async def measure(gateway: Gateway, folder: Path) -> list[Measured]:
    """Medians through the gateway less those straight to the replica, on one kept connection, stream after stream: of TTFT and of
    the largest gap between chunks."""
    rows = []
    async with running(gateway, Setting("round_robin", replicas=1), folder) as (process, (stub,)):
        subject = Subject(NAME, process)
        for pace, behaviour in PACES.items():
            stub.behaviour = behaviour
            for quick in (False, True):
                rows += await _added(subject, stub, pace, quick)
    return rows


async def _added(subject: Subject, stub: StubReplica, pace: str, quick: bool) -> list[Measured]:
    straight, through = await _streams(stub.url, quick), await _streams(subject.process.url, quick)
    acknowledged = "acknowledged at once" if quick else "delayed acknowledgements"
    ttft_s = _median(through, _ttft_s) - _median(straight, _ttft_s)
    gap_s = _median(through, _gap_s) - _median(straight, _gap_s)
    claim, holds = _judged(subject.process.gateway, quick, ttft_s)
    return [
        subject.found(f"added TTFT, {pace}, {acknowledged}", ttft_s, "s", claim, holds),
        subject.found(f"added largest chunk gap, {pace}, {acknowledged}", gap_s, "s"),
    ]


async def _streams(url: str, quick: bool) -> list[Answer]:
    async with Caller(url, quick) as caller:
        answers = [await caller.ask(PATH, completion(i)) for i in range(WARM + STREAMS)]
    failed = sum(not a.ok for a in answers)
    if failed:
        raise RuntimeError(f"{failed} of {len(answers)} streams to a stub failed: TTFT cannot be measured")
    return answers[WARM:]


def _median(answers: list[Answer], of: Callable[[Answer], float]) -> float:
    return median(map(of, answers))


def _ttft_s(answer: Answer) -> float:
    assert answer.first_s is not None
    return answer.first_s


def _gap_s(answer: Answer) -> float:
    return answer.max_gap_s


def _judged(gateway: Gateway, quick: bool, added_s: float) -> tuple[str, bool | None]:
    if gateway.name != "sglang_router":
        return "", None
    if quick:
        return f"under {LATE_S * 1000:g} ms", added_s < LATE_S
    return f"over {LATE_S * 1000:g} ms", added_s > LATE_S
