"""Known faults of real gateways, measured against stubs: a new one is its file and one line here.

`measure_faults` runs them; nothing here knows an engine or a study.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from routers.gateways import find_gateway
from routers.gateways.faults import (
    added_ttft,
    breaker_lockout,
    forgotten_text,
    hang_up,
    idle_pile,
    power_of_two,
    queue_refuses,
    retry_storm,
)
from routers.gateways.faults.measured import Measured
from routers.gateways.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault's measurement and the gateways it says something about."""

    gateways: tuple[str, ...]
    measure: Callable[[Gateway, Path], Awaitable[list[Measured]]]


_MODULES = (breaker_lockout, retry_storm, queue_refuses, power_of_two, idle_pile, hang_up, added_ttft, forgotten_text)
FAULTS: dict[str, Fault] = {module.NAME: Fault(module.GATEWAYS, module.measure) for module in _MODULES}


def measure_faults(gateways: Sequence[str], faults: Sequence[str], folder: Path) -> list[Measured]:
    """Measures each fault on each gateway that it is about, one after the other; logs and configurations stay in `folder`.

    Raises ValueError for an unknown name, MissingProgram where a gateway is not installed, GatewayFailed.
    """
    return asyncio.run(_measure_all(chosen_faults(gateways, faults), folder))


def chosen_faults(gateways: Sequence[str], faults: Sequence[str]) -> list[tuple[str, str]]:
    """(fault, gateway) for every measurement asked for; raises ValueError for an unknown name, or where nothing is left."""
    for name in faults:
        if name not in FAULTS:
            raise ValueError(f"unknown gateway fault {name!r}; allowed: {', '.join(FAULTS)}")
    for name in gateways:
        find_gateway(name)
    pairs = [(fault, gateway) for fault in faults for gateway in gateways if gateway in FAULTS[fault].gateways]
    if not pairs:
        raise ValueError(f"none of the faults {list(faults)} is about any of the gateways {list(gateways)}")
    return pairs


async def _measure_all(pairs: list[tuple[str, str]], folder: Path) -> list[Measured]:
    rows: list[Measured] = []
    for fault, gateway in pairs:
        rows += await FAULTS[fault].measure(find_gateway(gateway), folder / fault / gateway)
    return rows
