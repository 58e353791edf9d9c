"""What is compared: a workload's base load, and the trace cut the way the run cuts it. It judges nothing."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from workloads.arrivals import TraceClock
from workloads.lengths import SessionLengths, running_total, session_lengths
from workloads.plan import Plan
from workloads.trace_table import Trace
from workloads.workload import Workload

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """A trace and a workload that was made of it.

    Arrays named `turn_…` are flat over the usable turns of the trace; `sent_…` over the requests of the base load (the trigger's
    sessions come after them). A session that starts at s sends a turn due d after its start when 0 ≤ s + d < horizon, so a turn's
    weight is the share of starts for which it is sent: the trace, cut as the run is, with starts spread evenly over
    [−past, horizon).
    """

    trace: Trace
    workload: Workload
    plan: Plan
    lengths: SessionLengths

    @staticmethod
    def of(trace: Trace, workload: Workload) -> "Scene":
        """ValueError where the workload does not say how it was made, or was made of another trace."""
        made = workload.provenance
        theirs = made.get("trace")
        if "plan" not in made or not isinstance(theirs, dict):
            raise ValueError(f"workload {workload.name!r} does not say how it was made (no plan in its provenance)")
        if theirs.get("sha256") != trace.provenance["sha256"]:
            raise ValueError(f"workload {workload.name!r} was made of another file than the trace {trace.provenance['file']!r}")
        if not workload.horizon_s > 0:
            raise ValueError(f"workload {workload.name!r} lasts {workload.horizon_s:g} s; there is nothing to compare")
        stated = dict(made["plan"])  # type: ignore[call-overload]
        plan = Plan(**{**stated, "events": tuple(stated.get("events", ()))})
        return Scene(trace, workload, plan, session_lengths(trace, plan.pace, workload.seed))

    def number(self, name: str) -> float:
        """A figure of the workload's provenance."""
        return float(self.workload.provenance[name])  # type: ignore[arg-type]

    @property
    def horizon_s(self) -> float:
        return self.workload.horizon_s

    @property
    def past_s(self) -> float:
        return self.number("past_s")

    @cached_property
    def clock(self) -> TraceClock | None:
        """The usable sessions' own starts."""
        if not self.trace.has_timestamps:
            return None
        starts_s = self.trace.start_s[self.lengths.index]
        return TraceClock.of(starts_s) if len(starts_s) > 1 and starts_s[-1] > starts_s[0] else None

    # The trace, cut as the run is -----------------------------------------------------------------------------------

    @cached_property
    def flat(self) -> Ints:
        """The places of the usable turns among all turns of the trace."""
        turns = self.lengths.turns
        skipped = self.lengths.first - (np.cumsum(turns) - turns)
        return np.asarray(np.arange(int(turns.sum())) + np.repeat(skipped, turns))

    @cached_property
    def turn_number(self) -> Ints:
        turns = self.lengths.turns
        return np.arange(int(turns.sum())) - np.repeat(np.cumsum(turns) - turns, turns)

    @cached_property
    def turn_due_s(self) -> Floats:
        return self.lengths.due_s[self.flat]

    @cached_property
    def turn_before_s(self) -> Floats:
        """Due time of the turn before; 0 for a first turn."""
        return np.where(self.turn_number > 0, np.concatenate([[0.0], self.turn_due_s[:-1]]), 0.0)

    @cached_property
    def turn_new_tokens(self) -> Ints:
        """What a prompt adds to the turn before and its answer: all of it where it restarts."""
        prompt, output = self.lengths.prompt[self.flat], self.lengths.output[self.flat]
        before = np.concatenate([[0], (prompt + output)[:-1]])
        return np.where((self.turn_number == 0) | self.trace.restarts[self.flat], prompt, prompt - before)

    @cached_property
    def sent_weight(self) -> Floats:
        """Share of session starts for which a turn is sent."""
        until_s = np.minimum(self.horizon_s, self.horizon_s - self.turn_due_s)
        return self._share(until_s - np.maximum(-self.past_s, -self.turn_due_s))

    @cached_property
    def followed_weight(self) -> Floats:
        """Share of session starts for which a turn is sent and the turn before it too (a first turn: it is sent)."""
        return self._share(self.horizon_s - self.turn_due_s - np.maximum(-self.past_s, -self.turn_before_s))

    @cached_property
    def last_weight(self) -> Floats:
        """Share of session starts within the run for which a turn is the last that is sent."""
        last = np.append(self.turn_number[1:] == 0, True)
        next_s = np.where(last, np.inf, np.append(self.turn_due_s[1:], np.inf))
        return self._share(np.minimum(next_s, self.horizon_s) - np.minimum(self.turn_due_s, self.horizon_s))

    def _share(self, seconds: Floats) -> Floats:
        return np.asarray(np.clip(seconds / self.horizon_s, 0.0, 1.0))

    # The base load --------------------------------------------------------------------------------------------------

    @cached_property
    def sent(self) -> Ints:
        """Rows of the base load that are nominally due in the run; behind them stand turns for a pool that answers faster."""
        table, tpot_s = self.workload.table, self.plan.nominal_tpot_s
        base = np.flatnonzero(table.session_id < self.number("sessions"))
        timed = table.arrival_us[base] >= 0
        answered_s = np.concatenate([[0.0], table.output_tokens[base][:-1] * tpot_s])[: len(base)]
        step_s = np.where(timed, table.arrival_us[base] / 1e6, answered_s + np.maximum(table.think_us[base], 0) / 1e6)
        due_s = running_total(step_s, np.flatnonzero(timed)) if len(base) else step_s
        return base[due_s < self.horizon_s]

    @cached_property
    def sent_begins(self) -> Flags:
        """A session's first request of the run."""
        session = self.workload.table.session_id[self.sent]
        return np.concatenate([[True], session[1:] != session[:-1]])[: len(session)]

    @cached_property
    def sent_turn(self) -> Ints:
        return self.workload.table.turn[self.sent]

    @cached_property
    def starts_s(self) -> Floats:
        """Ascending times of the sessions that start in the run."""
        first = self.workload.table.arrival_us[self.sent][self.sent_turn == 0]
        return np.sort(first) / 1e6

    @cached_property
    def sent_new_tokens(self) -> Ints:
        """As `turn_new_tokens`; the first request of a session in mid-life holds its whole history and is of no use here."""
        table = self.workload.table
        prompt, output = table.prompt_tokens[self.sent], table.output_tokens[self.sent]
        before = np.concatenate([[0], (prompt + output)[:-1]])[: len(prompt)]
        return np.where(table.extends[self.sent], prompt - before, prompt)

    @cached_property
    def fresh_sessions(self) -> int:
        """Different sessions of the trace among those sent: repetitions tell nothing new."""
        return int(self.number("sessions") - self.number("sessions_reused"))
