"""What a run's manifest says of each replica: engine, version, command, cards, log, start. It changes nothing."""

import json
from typing import Any

from replicas.launch.failed import EngineFailed
from replicas.launch.replica import Replica

_VERSION_PATHS = {"vllm": ("/version",), "sglang": ("/server_info", "/get_server_info")}


def facts(replica: Replica) -> dict[str, Any]:
    """JSON-able; of the environment only the names, for values may be secrets. `version` None where the engine does not say."""
    found: dict[str, Any] = {
        "replica_id": replica.replica_id,
        "engine": replica.engine,
        "version": engine_version(replica),
        "url": replica.url,
        "model": replica.api.model,
        "ready_after_s": [round(seconds, 2) for seconds in replica.ready_after_s],
    }
    if replica.spec is None or replica.command is None or replica.process is None:
        return {**found, "remote": True}
    return {
        **found,
        "remote": False,
        "command": list(replica.command.argv),
        "environment": sorted(replica.command.environment),
        "gpus": list(replica.spec.gpus),
        "role": replica.spec.role,
        "log": str(replica.process.log),
    }


def engine_version(replica: Replica) -> str | None:
    for path in _VERSION_PATHS[replica.dialect]:
        try:
            status, text = replica.api.get(path)
            if status == 200 and (version := json.loads(text).get("version")):
                return str(version)
        except (EngineFailed, ValueError, AttributeError):
            continue
    return None
