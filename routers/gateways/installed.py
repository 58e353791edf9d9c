"""Which gateways can run on this host, and in which version. It starts none of them."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from routers.gateways import GATEWAYS, find_gateway
from routers.gateways.programs import MissingProgram, find_program


@dataclass(frozen=True, slots=True)
class Installed:
    """A gateway and its program; `program` is None where there is none, and `version` then says what to do."""

    name: str
    program: Path | None
    version: str


def installed_gateways(environ: Mapping[str, str] | None = None) -> list[Installed]:
    """One row a gateway, in the order of GATEWAYS; never raises for what is missing or broken."""
    return [_looked_up(name, environ) for name in GATEWAYS]


def _looked_up(name: str, environ: Mapping[str, str] | None) -> Installed:
    gateway = find_gateway(name)
    try:
        program = find_program(gateway.program, environ)
        return Installed(name, program, gateway.version(program))
    except MissingProgram as missing:
        return Installed(name, None, str(missing))
    except (OSError, subprocess.SubprocessError) as error:
        return Installed(name, None, f"{gateway.program} does not run: {error}")
