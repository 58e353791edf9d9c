"""What stands between senders and replicas for one cell: our router, a gateway, or nothing. It sends no request."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from replay.cell import Cell
from replay.measured.own_router import own_router
from replay.measured.place import Place
from replay.measured.rewritten import rewriting
from replay.send.spec import DIRECT as REPLICAS
from replay.send.spec import ROUTER
from replicas.launch.replica import Replica
from routers.gateways import DIRECT, find_gateway
from routers.gateways.gateway import GatewaySpec, Upstream
from routers.gateways.process import GatewayFailed, GatewayProcess, free_ports

OURS = "stampede"


class Running(Protocol):
    """A process that stands in front."""

    @property
    def running(self) -> bool: ...

    def cpu_s(self) -> float: ...

    def memory_bytes(self) -> int: ...

    def last_line(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Front:
    """Where senders send (`urls`, `target` as in SendSpec), and what cell.json says of who is there (`facts`).

    `process` None: nobody. `metrics_url` "": it tells no numbers. `log`: our router's, a line of JSON a try.
    """

    urls: tuple[str, ...]
    target: str
    facts: dict[str, Any]
    process: Running | None = None
    metrics_url: str = ""
    log: Path | None = None
    session_header: str = "x-session-id"
    takes_token_ids: bool = True

    def check(self) -> None:
        """GatewayFailed when it is no longer there."""
        if self.process is not None and not self.process.running:
            raise GatewayFailed(f"{self.facts['name']} ended while the cell ran; {self.process.last_line()}")

    def usage(self) -> dict[str, float]:
        """CPU seconds since its start and memory in bytes; 0 for nobody."""
        process = self.process
        return {"cpu_s": process.cpu_s() if process else 0.0, "memory_bytes": process.memory_bytes() if process else 0}


@contextmanager
def front_of(cell: Cell, place: Place, folder: Path) -> Iterator[Front]:
    """The cell's front, ready; gone after the block. `folder` holds what it was started with and its log.

    Raises GatewayFailed, and ValueError for what it cannot do or a program that is not installed.
    """
    if not cell.router.gateway:
        with own_router(cell, place, folder) as (router, url, command):
            facts = _facts(OURS, _our_version(), cell, cell.router.name, command)
            yield Front((url,), ROUTER, facts, router, f"{url}/metrics", folder / "requests.jsonl")
    elif cell.router.gateway == DIRECT:
        yield Front(place.pool.urls, REPLICAS, _facts(DIRECT, "", cell, "send by send in turn", ()))
    else:
        with _gateway(cell, place, folder) as front:
            yield front


@contextmanager
def _gateway(cell: Cell, place: Place, folder: Path) -> Iterator[Front]:
    gateway = find_gateway(cell.router.gateway)
    port, metrics_port = free_ports(2)
    roles = cell.pool.all_roles()
    upstreams = tuple(_upstream(replica, role) for replica, role in zip(place.pool.replicas, roles, strict=True))
    arm, parameters = cell.router.arm or "default", dict(cell.router.parameters)
    spec = GatewaySpec(cell.router.name, upstreams, port, metrics_port, arm, parameters=parameters)
    process = GatewayProcess(gateway, spec, folder)
    seen = rewriting(gateway, process.version, folder / "rewriting")
    with process:
        facts = _facts(gateway.name, process.version, cell, gateway.reported_policy(spec), process.command)
        yield Front(
            (process.url,),
            ROUTER,
            {**facts, "arm": arm, "rewriting": seen},
            process,
            process.metrics_url,
            None,
            gateway.session_header,
            gateway.takes_token_ids,
        )


def _upstream(replica: Replica, role: str) -> Upstream:
    transfer = replica.spec.transfer_port if replica.spec and replica.dialect == "sglang" and role == "prefill" else None
    return Upstream(replica.url, role, replica.dialect, transfer)


def _facts(name: str, version: str, cell: Cell, reported: str, command: tuple[str, ...]) -> dict[str, Any]:
    return {
        "name": name,
        "version": version,
        "policy": cell.router.name,
        "reported_policy": reported,
        "arm": cell.router.arm,
        "command": list(command),
    }


def _our_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("stampede")
    except PackageNotFoundError:
        return "unknown"
