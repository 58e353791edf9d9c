"""The load and the time in which a trace runs as it was recorded. It makes no workload."""

from workloads.arrivals import TraceClock
from workloads.lengths import session_lengths
from workloads.plan import Plan
from workloads.trace_table import Trace

_LONGEST_S, _WITHOUT_CLOCK_S = 3600.0, 600.0


def recorded_seconds(trace: Trace) -> float:
    """From the first session's start to one mean gap after the last one's, at most an hour; ten minutes without a clock."""
    if not trace.has_timestamps or len(trace) < 2 or not trace.start_s[-1] > 0:
        return _WITHOUT_CLOCK_S
    return min(TraceClock.of(trace.start_s).span_s, _LONGEST_S)


def natural_load_rps(trace: Trace, plan: Plan, seed: int) -> float | None:
    """Turns a second that the plan sends at the trace's own session rate; None where the trace has no clock."""
    if not trace.has_timestamps:
        return None
    lengths = session_lengths(trace, plan.pace, seed)
    starts_s = trace.start_s[lengths.index]
    if len(starts_s) < 2 or not starts_s[-1] > starts_s[0]:
        return None
    return TraceClock.of(starts_s).rate_rps * lengths.mean_turns
