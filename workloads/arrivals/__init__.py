"""WHEN sessions start: point processes and the shapes that modulate them, named and composed. It knows no contents."""

from workloads.arrivals.grammar import check_arrival
from workloads.arrivals.processes import ARRIVALS
from workloads.arrivals.sessions import is_steady, mean_factor, needs_clock, session_arrivals
from workloads.arrivals.shapes import SHAPES
from workloads.arrivals.trace_clock import Arrivals, TraceClock

__all__ = [
    "ARRIVALS",
    "SHAPES",
    "Arrivals",
    "TraceClock",
    "check_arrival",
    "is_steady",
    "mean_factor",
    "needs_clock",
    "session_arrivals",
]
