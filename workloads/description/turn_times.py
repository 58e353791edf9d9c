"""When each turn of a trace took place: by its own clock where that is known, by a nominal pace elsewhere. It counts nothing."""

import numpy as np
import numpy.typing as npt

from workloads.draws import generator
from workloads.lengths import Pace, SessionLengths, running_total, session_lengths
from workloads.trace_table import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

OWN = "the trace's own times"
NOMINAL = "session starts are the trace's own, later turns at a nominal pace (20 ms a token, known or log-normal think times)"
SESSIONS_ALIVE = 100
ASSUMED = (
    f"the trace has no clock: sessions start at random, about {SESSIONS_ALIVE} alive at once, with turns at a nominal "
    "pace (20 ms a token, known or log-normal think times)"
)


def own_turn_times(trace: Trace) -> Floats | None:
    """Seconds after the first session's start of every turn, in the order of the turns; None where one of them is unknown."""
    if not trace.has_timestamps:
        return None
    if trace.turn_count == len(trace):
        return trace.start_s
    if "gap_us" not in trace.table.column_names:
        return None
    gap_s = trace.gap_s.copy()
    gap_s[trace.turn_bounds[:-1]] = trace.start_s
    return None if np.isnan(gap_s).any() else running_total(gap_s, trace.turn_bounds[:-1])


def turn_order(trace: Trace) -> tuple[Ints, str]:
    """The places of all turns in the order of time, and how that order was found; turns of one session never change places."""
    times_s, basis = own_turn_times(trace), OWN
    if times_s is None:
        lengths = session_lengths(trace, Pace(), 0)
        starts_s, basis = (trace.start_s, NOMINAL) if trace.has_timestamps else (_assumed_starts(lengths), ASSUMED)
        times_s = lengths.due_s + np.repeat(starts_s, trace.turns)
    return np.argsort(times_s, kind="stable"), basis


def _assumed_starts(lengths: SessionLengths) -> Floats:
    """Poisson starts in trace order at the rate that keeps `SESSIONS_ALIVE` sessions alive on average (Little's law)."""
    last = lengths.first + lengths.turns - 1
    life_s = float((lengths.last_due_s + lengths.output[last] * Pace().nominal_tpot_s).mean())
    return np.cumsum(generator(0, "assumed-starts").exponential(life_s / SESSIONS_ALIVE, len(lengths.index)))
