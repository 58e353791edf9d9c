"""Carries a workload's events out on real replicas at their times, and says what was hit. It knows no sender and no router.

One thread a replica that anything happens to: a restart takes as long as it takes, and what is due there meanwhile is late.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from replay.measured.timeline import Action, actions_of
from replicas.launch import faults
from replicas.launch.failed import EngineFailed
from replicas.launch.replica import Replica
from replicas.launch.reset import flush_in_use
from replicas.launch.scrape import take
from workloads.events import Event

_LOOK_S = 0.5  # before an event its gauges are read
LATE_S = 0.5
_INF = float("inf")


@dataclass(slots=True)
class Done:
    """One action with its times from the run's start; `error` "" where it was carried out."""

    action: str
    replica_id: int
    due_s: float
    began_s: float
    ended_s: float
    error: str = ""


class Disturbance:
    """The events of one run on its replicas; `epoch_s` is the run's start on `time.monotonic()`.

    After `finish`: `records` has a record an event in the form of virtual time's (`t_s`, `kind`, `replica`, parameters, counts of
    what was hit; `skipped` says why it did not happen), `done` what was done when, and `problems` why the run does not count.
    """

    def __init__(self, events: Sequence[Event], replicas: Sequence[Replica], epoch_s: float, ready_s: float) -> None:
        ordered = sorted(events, key=lambda event: event.at_s)
        self.records: list[dict[str, Any]] = [
            {"t_s": e.at_s, "kind": e.kind, "replica": e.replica_id, **e.parameters()} for e in ordered
        ]
        self._epoch_s, self._ready_s = epoch_s, ready_s
        self._lock, self._over = threading.Lock(), threading.Event()
        self._ended_s = _INF
        self._done: list[Done] = []
        self._problems: list[str] = []
        self._broken: list[EngineFailed] = []
        actions = actions_of(ordered, [replica.replica_id for replica in replicas])
        self._threads = [
            threading.Thread(target=self._follow, args=(replicas[i], mine), daemon=True, name=f"events-{i}")
            for i, mine in actions.items()
        ]

    @property
    def done(self) -> list[dict[str, Any]]:
        return [asdict(one) for one in sorted(self._done, key=lambda one: (one.began_s, one.replica_id))]

    @property
    def problems(self) -> list[str]:
        return list(self._problems)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """The run is over: undo what stands (stopped replicas go on, dead ones come back), and wait for it.

        EngineFailed when a replica does not come back.
        """
        self._ended_s = time.monotonic() - self._epoch_s
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._broken:
            raise self._broken[0]

    # Inside ------------------------------------------------------------------------------------------------------------

    def _follow(self, replica: Replica, actions: Sequence[Action]) -> None:
        began = set[int]()  # events that have struck this replica
        for action in actions:
            if action.undoes and action.event not in began:
                continue
            self._wait(action.due_s - _LOOK_S)
            hit = {} if action.undoes else self._look(replica, action)
            self._wait(action.due_s)
            if self._over.is_set() and not action.undoes:
                self._skip(action, f"the run ended at {self._ended_s:.3f} s")
                continue
            began.add(action.event)
            self._carry_out(replica, action, hit)

    def _wait(self, until_s: float) -> None:
        self._over.wait(max(0.0, self._epoch_s + until_s - time.monotonic()))

    def _look(self, replica: Replica, action: Action) -> dict[str, int]:
        """What is in the replica when it is hit; nothing where it does not say in time."""
        if self._over.is_set():
            return {}
        try:
            seen = take(replica.source, _LOOK_S)
        except EngineFailed:
            return {}
        if action.what == "kill":
            return {"lost": seen.running + seen.waiting}
        return {"running": seen.running, "waiting": seen.waiting}

    def _carry_out(self, replica: Replica, action: Action, hit: dict[str, int]) -> None:
        began_s = time.monotonic()
        error = ""
        try:
            if action.what == "flush":
                hit = {"recomputed": hit.get("running", 0)} if flush_in_use(replica) else {}
            elif action.what == "restart":
                faults.restart(replica, self._ready_s)
            else:
                faults.ACTIONS[action.what](replica)
        except EngineFailed as failed:
            error = str(failed).splitlines()[0]
            if action.undoes:
                with self._lock:
                    self._broken.append(failed)
        self._note(action, hit, began_s, error)

    def _note(self, action: Action, hit: dict[str, int], began_s: float, error: str) -> None:
        began_s, ended_s = began_s - self._epoch_s, time.monotonic() - self._epoch_s
        with self._lock:
            self._done.append(Done(action.what, action.replica_id, action.due_s, began_s, ended_s, error))
            record = self.records[action.event]
            for name, count in hit.items():
                record[name] = record.get(name, 0) + count
            what = f"event {action.what} at replica {action.replica_id}, due at {action.due_s:g} s"
            if error:
                record["skipped"] = f"not carried out: {error}"
                self._problems.append(f"{what}, was not carried out: {error}")
            elif began_s - action.due_s > LATE_S and not action.undoes:
                self._problems.append(f"{what}, was late by {began_s - action.due_s:.1f} s")

    def _skip(self, action: Action, why: str) -> None:
        with self._lock:
            self.records[action.event]["skipped"] = why
