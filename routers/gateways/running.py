"""A gateway in front of stub replicas for as long as a context lasts, without blocking the event loop that the stubs live in."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routers.gateways.gateway import Gateway, GatewaySpec, Upstream
from routers.gateways.process import GatewayProcess, free_ports
from routers.gateways.stub import Behaviour, StubReplica


@dataclass(frozen=True, slots=True)
class Setting:
    """What stands in front of the stubs: rule, arm, parameters; `replicas` stubs that behave as told."""

    policy: str
    arm: str = "default"
    parameters: tuple[tuple[str, object], ...] = ()
    replicas: int = 3
    behaviour: Behaviour = field(default_factory=Behaviour)


@contextlib.asynccontextmanager
async def running(gateway: Gateway, setting: Setting, folder: Path) -> AsyncIterator[tuple[GatewayProcess, list[StubReplica]]]:
    """The started gateway and the stubs behind it; both are gone after. Raises what GatewayProcess raises."""
    async with contextlib.AsyncExitStack() as stack:
        stubs = [await stack.enter_async_context(StubReplica(setting.behaviour)) for _ in range(setting.replicas)]
        process = _process(gateway, setting, stubs, folder)
        stack.push_async_callback(asyncio.to_thread, process.stop)
        await asyncio.to_thread(process.start)
        for stub in stubs:
            stub.asked.clear()
        yield process, stubs


def _process(gateway: Gateway, setting: Setting, stubs: Sequence[StubReplica], folder: Path) -> GatewayProcess:
    port, metrics_port = free_ports(2)
    upstreams = tuple(Upstream(stub.url, engine="sglang" if setting.behaviour.knows_load else "") for stub in stubs)
    parameters: dict[str, Any] = dict(setting.parameters)
    spec = GatewaySpec(setting.policy, upstreams, port, metrics_port, setting.arm, 60.0, parameters)
    return GatewayProcess(gateway, spec, folder)
