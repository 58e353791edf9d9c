"""A workload's events as actions at single replicas, in order of time. It carries nothing out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workloads.events import Event

_ACTIONS = {"kill": ("kill", "restart"), "pause": ("pause", "resume"), "flush": ("flush",)}


@dataclass(frozen=True, slots=True)
class Action:
    """What is done to one replica, `due_s` from the run's start, for event number `event` (its place among the events).

    `undoes`: it ends what an earlier action began, and so must be done even when the run is over.
    """

    due_s: float
    what: str
    replica_id: int
    event: int
    undoes: bool


def actions_of(events: Sequence[Event], replicas: Iterable[int]) -> dict[int, list[Action]]:
    """By replica, what is done to it; events must have been checked (`check_events`)."""
    found: dict[int, list[Action]] = {}
    for replica_id in replicas:
        mine = [(i, event) for i, event in enumerate(events) if event.replica_id in (None, replica_id)]
        actions = [
            Action(event.until_s if n else event.at_s, what, replica_id, i, bool(n))
            for i, event in mine
            for n, what in enumerate(_ACTIONS[event.kind])
        ]
        if actions:
            found[replica_id] = sorted(actions, key=lambda action: (action.due_s, not action.undoes))
    return found
