"""Makes a pool ready for the next cell: all alive, idle, empty, and proved to be. It starts only what had died."""

from dataclasses import dataclass, field
from typing import Any

from replay.measured.place import Place
from replicas.launch.facts import engine_version
from replicas.launch.replica import Replica, warm_up
from replicas.launch.reset import Flushed, flush, reset

_IDLE_S = 60.0  # orphaned work of the cell before may go on for a while


@dataclass(slots=True)
class Prepared:
    """What was found: `flushed` proves the caches empty; `unverified` names replicas that answer only in a pair, and were only
    flushed; `restarted` those that were dead."""

    flushed: list[Flushed] = field(default_factory=list)
    unverified: list[int] = field(default_factory=list)
    restarted: list[int] = field(default_factory=list)
    engines: list[dict[str, Any]] = field(default_factory=list)


def prepare(place: Place) -> Prepared:
    """EngineFailed, in one line, when a replica does not come back, is not idle in time or cannot be proved empty."""
    found = Prepared()
    for replica in place.pool.replicas:
        if replica.process is not None and replica.process.exit_code is not None:
            replica.start(place.ready_s)
            found.restarted.append(replica.replica_id)
        if replica.warm != replica.starts:  # it came back, now or in the cell before
            warm_up(replica)
    for replica in place.pool.replicas:
        if replica.answers_alone:
            found.flushed.append(reset(replica, _IDLE_S))
        else:
            flush(replica, _IDLE_S)
            found.unverified.append(replica.replica_id)
        found.engines.append(_facts(replica))
    return found


def _facts(replica: Replica) -> dict[str, Any]:
    return {
        "replica_id": replica.replica_id,
        "engine": replica.engine,
        "version": engine_version(replica),
        "url": replica.url,
    }
