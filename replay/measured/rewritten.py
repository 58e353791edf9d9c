"""What a gateway does to requests on their way, looked at once in a process for each gateway and version. It judges nothing."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from routers.gateways.gateway import Gateway
from routers.gateways.rewriting import rewriting_of

_seen: dict[tuple[str, str], list[dict[str, Any]]] = {}


def rewriting(gateway: Gateway, version: str, folder: Path) -> list[dict[str, Any]]:
    """The fields of `Rewriting`, a row a change; [] = nothing is touched. The first call starts the gateway before a stub.

    Raises what GatewayProcess raises.
    """
    key = gateway.name, version
    if key not in _seen:
        _seen[key] = [asdict(row) for row in rewriting_of(gateway, folder)]
    return _seen[key]
