"""What happens TO replicas, and when: the events of a workload. It does not know the pool, nor how an event is carried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True)
class Parameter:
    """A number that an event kind takes: its default and its bounds (inclusive), or the only values it may have."""

    default: float
    least: float = 0.0
    most: float = 0.0
    only: tuple[int, ...] = ()

    @property
    def allowed(self) -> str:
        if self.only:
            return " or ".join(str(value) for value in self.only)
        return f"a number from {self.least:g} to {self.most:g}"

    def admits(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            return False
        return value in self.only if self.only else self.least <= value <= self.most


_FOR = {"for_s": Parameter(10.0, 0.001, 1e6)}

EVENTS: dict[str, dict[str, Parameter]] = {
    "pause": _FOR,
    "slow": {**_FOR, "factor": Parameter(2.0, 1.0, 1000.0)},
    "kill": _FOR,
    "flush": {},
    "refuse": {**_FOR, "status": Parameter(503, only=(429, 503)), "share": Parameter(1.0, 0.0, 1.0)},
    "blackout": _FOR,
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event at a replica (`replica_id` None: at every replica), `at_s` seconds after the run's start.

    pause: its engine stands still for `for_s`; nothing is lost, and its front end goes on taking requests and telling gauges.
    slow: everything its engine does takes `factor` times as long. kill: its process dies with every request in it, refuses
    connections for `for_s`, and comes back empty and cold. flush: its prefix cache forgets what no running request holds.
    refuse: a `share` of the submissions is answered with `status`. blackout: its gauges and probes go unanswered.
    Parameters that a kind does not take keep their defaults. ValueError for an unknown kind, a bad time or a bad parameter.
    """

    at_s: float
    kind: str
    replica_id: int | None = None
    for_s: float = 0.0
    factor: float = 1.0
    status: int = 503
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in EVENTS:
            raise ValueError(f"event kind is {self.kind!r}; allowed: {', '.join(EVENTS)}")
        if not 0.0 <= self.at_s < float("inf"):
            raise ValueError(f"at_s of a {self.kind} is {self.at_s!r}; allowed: seconds from the run's start, 0 or more")
        for name, parameter in EVENTS[self.kind].items():
            if not parameter.admits(getattr(self, name)):
                raise ValueError(f"{name} of a {self.kind} is {getattr(self, name)!r}; allowed: {parameter.allowed}")

    @property
    def until_s(self) -> float:
        """When it is over: `for_s` after it began."""
        return self.at_s + self.for_s

    def parameters(self) -> dict[str, float]:
        """The parameters that its kind takes."""
        return {name: getattr(self, name) for name in EVENTS[self.kind]}


def check_event(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The event {kind, replica_id, its parameters} with defaults filled in (no `replica_id`: every replica).

    ValueError names the key as `where.key`, the value and what is allowed.
    """
    kind = data.get("kind")
    if not isinstance(kind, str) or kind not in EVENTS:
        raise ValueError(f"{where}.kind is {kind!r}; allowed: {', '.join(EVENTS)}")
    takes = EVENTS[kind]
    for key, value in data.items():
        if key not in ("kind", "replica_id", *takes):
            raise ValueError(f"{where}.{key} is no key of {kind!r}; allowed: {', '.join(('kind', 'replica_id', *takes))}")
        if key in takes and not takes[key].admits(value):
            raise ValueError(f"{where}.{key} is {value!r}; allowed: {takes[key].allowed}")
    replica_id = data.get("replica_id")
    if replica_id is not None and (isinstance(replica_id, bool) or not isinstance(replica_id, int) or replica_id < 0):
        raise ValueError(f"{where}.replica_id is {replica_id!r}; allowed: a whole number from 0, or null for every replica")
    return {"kind": kind, "replica_id": replica_id, **{name: data.get(name, p.default) for name, p in takes.items()}}


def event_of(checked: Mapping[str, Any], at_s: float) -> Event:
    """The event that `check_event` returned, at `at_s` seconds from the run's start."""
    return Event(at_s=at_s, **checked)
