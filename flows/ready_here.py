"""What a study needs of this host, looked for before anything is written: engines, models, gateways. It starts nothing."""

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flows.study import Study, StudyError
from flows.study_parts import DIRECT

if TYPE_CHECKING:
    from flows.live_pool import LivePool


@dataclass(frozen=True, slots=True)
class Ready:
    """The study's live pools by title, and the versions of its gateways by name."""

    pools: "dict[str, LivePool]" = field(default_factory=dict)
    gateways: dict[str, str] = field(default_factory=dict)


def ready_here(study: Study) -> Ready:
    """StudyError in one line for what is not there. A study without live pools needs nothing."""
    if not study.is_live:
        return Ready()
    from flows.live_pool import live_pools

    return Ready(live_pools(study), _gateway_versions(study))


def missing_here(study: Study) -> list[str]:
    """What engines and gateways of a study are not on this host, by name; nothing is started and no model is made."""
    from replicas.launch.environment import find
    from routers.gateways import find_gateway
    from routers.gateways.programs import MissingProgram, find_program

    missing: dict[str, None] = {}
    for group in (group for pool in study.pools for group in pool.groups if group.engine != "served" and not group.remote):
        try:
            find(group.engine, group.python)
        except ValueError:
            missing[group.engine] = None
    for gateway in (router.gateway for router in study.routers if router.gateway not in (None, DIRECT)):
        try:
            find_program(find_gateway(str(gateway)).program)
        except MissingProgram:
            missing[str(gateway)] = None
    return list(missing)


def _gateway_versions(study: Study) -> dict[str, str]:
    from routers.gateways import find_gateway
    from routers.gateways.programs import MissingProgram, find_program

    found: dict[str, str] = {}
    for i, router in enumerate(study.routers):
        name = router.gateway
        if name is None or name == DIRECT or name in found:
            continue
        gateway = find_gateway(name)
        try:
            found[name] = gateway.version(find_program(gateway.program))
        except MissingProgram as missing:
            raise StudyError(f"routers.{i}.gateway = {name!r}: {missing}") from missing
        except (OSError, subprocess.SubprocessError) as error:
            raise StudyError(f"routers.{i}.gateway = {name!r}: its program does not run: {error}") from error
    return found
