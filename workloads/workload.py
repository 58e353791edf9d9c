"""A workload: everything that will be sent and everything that will happen, from one seed. It does not know who serves it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from workloads.events import Event
from workloads.request import Request
from workloads.request_table import RequestTable


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run with one planned load: `load_rps` first attempts due per second on average."""

    name: str
    duration_s: float
    load_rps: float


@dataclass(frozen=True, eq=False)
class Workload:
    """The seeded plan: phases, requests (a table; `request_id` is the place in it) and events of the pool, in time order.

    `provenance` holds counts and facts for the report (source, licence, rows dropped, sessions reused, mean turns …).
    """

    name: str
    seed: int
    phases: tuple[Phase, ...]
    table: RequestTable
    provenance: dict[str, object]
    events: tuple[Event, ...] = ()

    @staticmethod
    def of(
        name: str,
        seed: int,
        phases: tuple[Phase, ...],
        requests: Sequence[Request],
        provenance: dict[str, object],
        events: tuple[Event, ...] = (),
    ) -> "Workload":
        """From row objects, whose ids must be their places."""
        return Workload(name, seed, phases, RequestTable.of(requests), provenance, events)

    def sending(self, requests: Sequence[Request]) -> "Workload":
        """The same plan with other requests."""
        return Workload.of(self.name, self.seed, self.phases, requests, self.provenance, self.events)

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Row objects, made when first asked for."""
        return self.table.requests()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Workload):
            return NotImplemented
        mine, theirs = ((w.name, w.seed, w.phases, w.events, w.provenance) for w in (self, other))
        return mine == theirs and self.table.equals(other.table)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def horizon_s(self) -> float:
        """End of the last phase: nothing is scheduled later."""
        return sum(p.duration_s for p in self.phases)

    def phase_bounds(self) -> list[tuple[str, float, float]]:
        """(name, start_s, end_s) of each phase."""
        bounds, start = [], 0.0
        for phase in self.phases:
            bounds.append((phase.name, start, start + phase.duration_s))
            start += phase.duration_s
        return bounds
