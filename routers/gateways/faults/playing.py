"""Puts a real gateway through a scenario, before stub replicas. It knows what was done and seen, and not what to think of it."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from routers.gateways import find_gateway
from routers.gateways.ask import Answer, Caller
from routers.gateways.faults.prompts import PATH, completion
from routers.gateways.faults.scenario import AT_ONCE, TEXT, Scenario, Step
from routers.gateways.faults.seen import Seen
from routers.gateways.process import GatewayProcess
from routers.gateways.running import Setting, running
from routers.gateways.stub import Behaviour, StubReplica

HANG_UP_WAIT_S = 5.0
_PAUSE_S = 0.02


@dataclass(frozen=True, slots=True)
class Played:
    """What was seen: `steps` holds each step's numbers by its name; `policy` is the rule really at work."""

    scenario: Scenario
    version: str
    policy: str
    steps: dict[str, dict[str, float]]


def play(scenario: Scenario, folder: Path) -> Played:
    """Starts the gateway (its logs and configuration stay in `folder`), plays every step, ends it.

    Raises MissingProgram, ValueError for a rule it has not, GatewayFailed.
    """
    return asyncio.run(_play(scenario, folder))


async def _play(scenario: Scenario, folder: Path) -> Played:
    gateway = find_gateway(scenario.gateway)
    quick = Behaviour(knows_load=scenario.tells_load)
    setting = Setting(scenario.policy, scenario.arm, scenario.parameters, scenario.replicas, quick)
    async with running(gateway, setting, folder) as (process, stubs):
        player = _Player(process, stubs, scenario.tells_load)
        try:
            numbers = {step.name: (await player.step(step)).numbers(step) for step in scenario.steps}
        finally:
            await player.close()
        return Played(scenario, process.version, gateway.reported_policy(process.spec), numbers)


class _Player:
    """The callers of one scenario. `_seen` keeps earlier steps by name, `_keys` the prompts they sent."""

    def __init__(self, process: GatewayProcess, stubs: list[StubReplica], tells_load: bool) -> None:
        self._process, self._stubs, self._tells_load = process, stubs, tells_load
        self._next_key = 1
        self._keys: dict[str, list[int]] = {}
        self._seen: dict[str, Seen] = {}
        self._open: list[asyncio.Task[list[Answer]]] = []

    async def step(self, step: Step) -> Seen:
        self._behave(step)
        keys = self._keys[step.again] if step.again else self._fresh_keys(step.requests)
        self._keys[step.name] = keys
        seen = self._seen[step.name] = Seen(had=self._seen[step.again].places if step.again else {})
        before = [len(stub.asked) for stub in self._stubs]
        if step.direct:  # first, so that the gateway's own connections are not woken by it
            seen.straight = await self._rounds(self._stubs[0].url, step, keys)
            before = [len(stub.asked) for stub in self._stubs]
        await self._send(step, keys, seen)
        await asyncio.sleep(step.wait_s)
        seen.attempts = [(i, asked) for i, stub in enumerate(self._stubs) for asked in stub.asked[before[i] :]]
        return seen

    async def close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _behave(self, step: Step) -> None:
        if step.behaviour is not None:
            for i in step.replicas or range(len(self._stubs)):
                self._stubs[i].behaviour = replace(step.behaviour, knows_load=self._tells_load)

    def _fresh_keys(self, n: int) -> list[int]:
        self._next_key += n
        return list(range(self._next_key - n, self._next_key))

    async def _send(self, step: Step, keys: list[int], seen: Seen) -> None:
        url, loop = self._process.url, asyncio.get_running_loop()
        began_s = loop.time()
        if step.stays_open:
            self._open.append(asyncio.create_task(self._rounds(url, step, keys)))
        elif step.leave_after_s is not None:
            seen.hang_up_s = await self._leave(step, keys, step.leave_after_s)
        elif step.until_answered_s is not None:
            while loop.time() < began_s + step.until_answered_s and not any(a.ok for a in seen.answers):
                seen.answers += await self._rounds(url, step, keys[:1])
                await asyncio.sleep(0 if seen.answers[-1].ok else _PAUSE_S)
            seen.first_answer_s = loop.time() - began_s if seen.answers and seen.answers[-1].ok else inf
        else:
            seen.answers = await self._rounds(url, step, keys)

    async def _leave(self, step: Step, keys: list[int], after_s: float) -> float:
        """Hangs up after a while; the time until the replicas have seen it, inf where they did not within HANG_UP_WAIT_S."""
        before = [len(stub.asked) for stub in self._stubs]
        asking = asyncio.create_task(self._rounds(self._process.url, step, keys))
        await asyncio.sleep(after_s)
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        loop = asyncio.get_running_loop()
        left_s = loop.time()
        while loop.time() < left_s + HANG_UP_WAIT_S:
            reached = [asked for stub, n in zip(self._stubs, before, strict=True) for asked in stub.asked[n:]]
            if reached and all(asked.hung_up for asked in reached):
                return loop.time() - left_s
            await asyncio.sleep(0.01)
        return inf

    async def _rounds(self, url: str, step: Step, keys: list[int]) -> list[Answer]:
        """All requests, `at_once` at a time; each place in a round keeps its connection."""
        headers = {self._process.gateway.session_header: step.session} if step.session else {}
        answers: list[Answer] = []
        async with contextlib.AsyncExitStack() as stack:
            n = min(step.at_once, len(keys))
            callers = [await stack.enter_async_context(Caller(url, step.acknowledged == AT_ONCE)) for _ in range(n)]
            for these in _in_groups(keys, n):
                bodies = [completion(key, step.form == TEXT) for key in these]
                asks = [caller.ask(PATH, body, headers) for caller, body in zip(callers, bodies, strict=False)]
                answers += await asyncio.gather(*asks)
        return answers


def _in_groups(keys: list[int], n: int) -> Iterator[list[int]]:
    for first in range(0, len(keys), n):
        yield keys[first : first + n]
