"""Carries out a workload's events on the simulated replicas of one run, and keeps a record of what each hit. It ends no try.

A killed replica comes back with a new engine but with the old one's counters, so a sample's counters never fall. Nobody checks
health in virtual time: a view's `healthy` stays true while its replica is down, and what notices is a guard (breaker, retry) or
a policy that reads the age of the news.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from replay.replica_clock import ClockedReplica
from replicas.engine import Engine
from routers.policy import RoutedRequest, Truth
from workloads.draws import purpose_id, uniform
from workloads.events import Event

_REFUSE = purpose_id("event-refuse")

# (at_s, what to do then); the driver's timer
Schedule = Callable[[float, Callable[[float], None]], None]
# (replica, now_s): settle the tries at a replica that dies, kill it, end them; returns how many they were
Lose = Callable[[ClockedReplica, float], int]


_Underway = tuple[Event, dict[str, Any]]  # an event that has begun, and its record


@dataclass(slots=True)
class _Standing:
    """What holds at one replica, or has held: each is over at its event's `until_s`."""

    down: _Underway | None = None
    dark: list[_Underway] = field(default_factory=list)
    refusing: list[_Underway] = field(default_factory=list)


class Faults:
    """The events of one run on its `engines` (seconds from the run's start); ValueError for one at a replica outside the pool.

    `replicas` take the engines' place under the driver's hands. `done` has a record an event, in order of time: t_s, kind,
    replica (None = every one), its parameters, and what it hit.
    """

    def __init__(self, events: Sequence[Event], engines: list[Engine], seed: int, lose: Lose) -> None:
        for i, event in enumerate(events):
            if event.replica_id is not None and not 0 <= event.replica_id < len(engines):
                raise ValueError(
                    f"events[{i}].replica_id is {event.replica_id} ({event.kind} at {event.at_s:g} s); "
                    f"allowed: 0 to {len(engines) - 1}, or null for every replica"
                )
        self._events = sorted(events, key=lambda e: e.at_s)
        self._seed, self._lose = seed, lose
        self.replicas = [
            ClockedReplica(engines, i, [e for e in events if e.replica_id in (None, i)]) for i in range(len(engines))
        ]
        self._standing = [_Standing() for _ in engines]
        self.done: list[dict[str, Any]] = []

    def schedule(self, at: Schedule) -> None:
        """Every event on the driver's timer."""
        for event in self._events:
            at(event.at_s, partial(self._begin, event))

    def truth(self, truth: Truth) -> "TruthUnderFaults":
        return TruthUnderFaults(truth, self)

    def is_down(self, replica_id: int, now_s: float) -> bool:
        down = self._standing[replica_id].down
        return down is not None and now_s < down[0].until_s

    def is_dark(self, replica_id: int, now_s: float) -> bool:
        """Nothing is heard of it: a blackout, or it is down."""
        dark = any(now_s < event.until_s for event, _ in self._standing[replica_id].dark)
        return dark or self.is_down(replica_id, now_s)

    # What the driver asks ------------------------------------------------------------------------------------------------

    def refusal(self, replica_id: int, request: RoutedRequest, now_s: float) -> tuple[int, str] | None:
        """(status, error) for a submission that does not get to the engine; status 0 = no connection."""
        standing = self._standing[replica_id]
        if standing.down is not None and self.is_down(replica_id, now_s):
            standing.down[1]["refused"] += 1
            return 0, "connection refused: replica down"
        for event, record in standing.refusing:
            if now_s < event.until_s:
                record["submissions"] += 1
                if self._draw(event, replica_id, request) < event.share:
                    record["refused"] += 1
                    return event.status, f"refused with {event.status} by an event"
        return None

    def answers_poll(self, replica_id: int, now_s: float) -> bool:
        return self._answers(replica_id, now_s, "polls")

    def answers_probe(self, replica_id: int, now_s: float) -> bool:
        return self._answers(replica_id, now_s, "probes")

    def close(self, now_s: float) -> None:
        """The run is over: events that it did not reach are recorded as such."""
        for event in self._events[len(self.done) :]:
            self._note(event)["skipped"] = f"the run ended at {now_s:.3f} s"

    # Inside --------------------------------------------------------------------------------------------------------------

    def _draw(self, event: Event, replica_id: int, request: RoutedRequest) -> float:
        """Keyed by the event and the try, so nothing that happens elsewhere moves it."""
        what = round(event.at_s * 1e6), event.status, replica_id
        return uniform(self._seed, _REFUSE, *what, request.request_id, request.client_attempt, request.router_try)

    def _answers(self, replica_id: int, now_s: float, what: str) -> bool:
        standing = self._standing[replica_id]
        if standing.down is not None and self.is_down(replica_id, now_s):
            standing.down[1][f"{what}_lost"] += 1
            return False
        for event, record in standing.dark:
            if now_s < event.until_s:
                record[f"{what}_lost"] += 1
                return False
        return True

    def _begin(self, event: Event, now_s: float) -> None:
        record = self._note(event)
        record |= _HITS[event.kind]
        hit = range(len(self.replicas)) if event.replica_id is None else (event.replica_id,)
        if event.kind == "kill":
            for replica_id in hit:  # all are down before anybody hears of it: what one loses must not be sent to the next
                down = self._standing[replica_id].down
                if down is None or down[0].until_s <= event.until_s:  # the later return counts
                    self._standing[replica_id].down = event, record
            for replica_id in hit:
                record["lost"] += self._lose(self.replicas[replica_id], now_s)
            return
        for replica_id in hit:
            self._apply(event, record, replica_id)

    def _apply(self, event: Event, record: dict[str, Any], replica_id: int) -> None:
        replica, standing = self.replicas[replica_id], self._standing[replica_id]
        if event.kind == "flush":
            record["flushed_tokens"] += replica.flush()
        elif event.kind == "refuse":
            standing.refusing.append((event, record))
        elif event.kind == "blackout":
            standing.dark.append((event, record))
        else:  # a pause or a slow stretch is in the replica's clock from the start
            record["running"] += replica.running
            record["waiting"] += replica.waiting

    def _note(self, event: Event) -> dict[str, Any]:
        record = {"t_s": event.at_s, "kind": event.kind, "replica": event.replica_id, **event.parameters()}
        self.done.append(record)
        return record


_HITS: dict[str, dict[str, int]] = {
    "pause": {"running": 0, "waiting": 0},
    "slow": {"running": 0, "waiting": 0},
    "kill": {"lost": 0, "refused": 0, "polls_lost": 0, "probes_lost": 0},
    "flush": {"flushed_tokens": 0},
    "refuse": {"submissions": 0, "refused": 0},
    "blackout": {"polls_lost": 0, "probes_lost": 0},
}


class TruthUnderFaults:
    """The pool's truth in the run's time: a replica that is down never answers; the end of a pause or slow stretch is known."""

    def __init__(self, truth: Truth, faults: Faults) -> None:
        self._truth, self._faults = truth, faults

    def predicted_ttft_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return self._in_run_time(self._truth.predicted_ttft_s, replica_id, request, now_s)

    def predicted_e2e_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return self._in_run_time(self._truth.predicted_e2e_s, replica_id, request, now_s)

    def _in_run_time(
        self, predict: Callable[[int, RoutedRequest, float], float], replica_id: int, request: RoutedRequest, now_s: float
    ) -> float:
        if self._faults.is_down(replica_id, now_s):
            return float("inf")
        replica = self._faults.replicas[replica_id]
        return replica.run_seconds(predict(replica_id, request, replica.own_s(now_s)), now_s)
