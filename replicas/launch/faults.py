"""Hurts a launched replica and says what was hit: kill -9, stop, continue, terminate, restart cold. It knows no schedule."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from replicas.launch.api import one_line
from replicas.launch.failed import EngineFailed
from replicas.launch.process import Part
from replicas.launch.replica import READY_S, Replica

_GONE_S = 20.0


@dataclass(frozen=True, slots=True)
class Hit:
    """What an action hit, and when, on `time.monotonic()`: a kill has ended when all is gone, a restart when it answers."""

    action: str
    replica_id: int
    began_s: float
    ended_s: float
    parts: tuple[Part, ...]


def kill(replica: Replica) -> Hit:
    """SIGKILL to every process at once, as when a pod is lost: connections break, the cache is gone."""
    return _done("kill", replica, lambda: _killed(replica, engine_only=False))


def kill_engine(replica: Replica) -> Hit:
    """SIGKILL to what runs the model only: its API server lives on, tells its clients, and then ends too."""
    return _done("kill_engine", replica, lambda: _killed(replica, engine_only=True))


def pause(replica: Replica) -> Hit:
    """SIGSTOP to every process: the kernel still takes connections, and nothing answers."""

    def paused() -> list[Part]:
        _set_time(replica, "pause")
        return replica.launched.signal(signal.SIGSTOP)

    return _done("pause", replica, paused)


def pause_engine(replica: Replica) -> Hit:
    """SIGSTOP to what runs the model only: /health of the API server may go on to answer 200."""
    return _done("pause_engine", replica, lambda: replica.launched.signal(signal.SIGSTOP, engine_only=True))


def resume(replica: Replica) -> Hit:
    """SIGCONT to every process: it goes on where it was, with all that had come meanwhile."""

    def resumed() -> list[Part]:
        parts = replica.launched.signal(signal.SIGCONT)
        _set_time(replica, "resume")
        return parts

    return _done("resume", replica, resumed)


def terminate(replica: Replica, grace_s: float = 30.0) -> Hit:
    """SIGTERM to the API server, as an orderly scale-down; what is left after `grace_s` is killed."""

    def ended() -> list[Part]:
        parts = replica.launched.parts()
        replica.launched.stop(grace_s)
        return parts

    return _done("terminate", replica, ended)


def restart(replica: Replica, ready_s: float = READY_S) -> Hit:
    """Start it again on its old port with an empty cache, and wait until it answers; one that still runs is killed first."""

    def restarted() -> list[Part]:
        if replica.launched.exit_code is None:
            _killed(replica, engine_only=False)
        replica.start(ready_s)
        return replica.launched.parts()

    return _done("restart", replica, restarted)


ACTIONS: dict[str, Callable[[Replica], Hit]] = {
    action.__name__: action for action in (kill, kill_engine, pause, pause_engine, resume, terminate, restart)
}


def _done(action: str, replica: Replica, act: Callable[[], list[Part]]) -> Hit:
    began_s = time.monotonic()
    parts = act()
    return Hit(action, replica.replica_id, began_s, time.monotonic(), tuple(parts))


def _set_time(replica: Replica, kind: str) -> None:
    """A real engine that is stopped makes no steps; a simulated one would make up for them, did its time not stand still too."""
    if replica.engine == "served":
        status, text = replica.api.post("/fault", {"kind": kind})
        if status != 200:
            raise EngineFailed(f"{replica.url}/fault: HTTP {status} {one_line(text)}")


def _killed(replica: Replica, engine_only: bool) -> list[Part]:
    """Hit all, and wait for the end; a server that outlives its engine is ended after `_GONE_S`."""
    hit = replica.launched.signal(signal.SIGKILL, engine_only)
    if replica.launched.wait(_GONE_S) is None:
        replica.launched.stop(grace_s=0.0)
    return hit
