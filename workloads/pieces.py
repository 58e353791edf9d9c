"""A workload whose load goes through pieces, each a factor of one load: a staircase, or a burst and a shedding. No trigger.

One master process of sessions at the largest factor is thinned: a session has a mark, and comes in a piece where the mark is
below the piece's share of the largest factor. It joins in mid-life where a piece lets it in, and leaves where the next does not,
so that the load is at its new level at once and not when the sessions of the last one have ended.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt

from workloads.draws import generator
from workloads.lengths import SessionLengths, session_lengths
from workloads.plan import Plan
from workloads.request_table import UNKNOWN_US
from workloads.sessions import Sessions, request_table, turns_before
from workloads.synthesis import base_sessions, session_rate
from workloads.trace_table import Trace
from workloads.workload import Phase, Workload

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NO_TRIGGER = {"kind": "placebo", "d_s": 0.0}


def in_pieces(trace: Trace, plan: Plan, load_rps: float, pieces: Sequence[tuple[float, float]], seed: int) -> Workload:
    """Pieces (factor of `load_rps`, seconds) one after another, behind the plan's warmup at the first factor above 0.

    Phases are called warmup, piece1, piece2, …; the plan's other phases and its trigger are not used. ValueError for no piece, a
    factor below 0 or none above it, or a piece that takes no time.
    """
    if not pieces or min(f for f, _ in pieces) < 0 or max(f for f, _ in pieces) <= 0 or min(s for _, s in pieces) <= 0:
        raise ValueError(f"pieces are {list(pieces)!r}; expected factors ≥ 0, one of them above 0, each for more than 0 s")
    first = next(factor for factor, _ in pieces if factor > 0)
    courses = [("warmup", first, plan.warmup_s), *((f"piece{i + 1}", f, s) for i, (f, s) in enumerate(pieces))]
    courses = [course for course in courses if course[2] > 0]
    bounds = np.concatenate([[0.0], np.cumsum([s for *_, s in courses])])
    most = max(factor for _, factor, _ in courses)
    plan = replace(plan, warmup_s=0.0, steady_s=0.0, recovery_s=float(bounds[-1]), trigger=_NO_TRIGGER)
    lengths = session_lengths(trace, plan.pace, seed)
    past_s, rate = session_rate(lengths, plan, load_rps * most)
    _, base, counts = base_sessions(trace, plan, lengths, past_s, rate, seed)
    marks = generator(seed, "piece-marks").random(len(base)) * most
    stays = [_stay(lengths, base, marks, [f for _, f, _ in courses], bounds, place) for place in range(len(courses))]
    sent = Sessions(*(np.concatenate([getattr(stay, f.name) for stay in stays]) for f in fields(Sessions)))
    deadline_us = UNKNOWN_US if plan.deadline_s is None else round(plan.deadline_s * 1e6)
    table = request_table(trace, lengths, sent, deadline_us=deadline_us, absolute=plan.mode == "absolute")
    provenance: dict[str, object] = {"trace": dict(trace.provenance), "load_rps": load_rps, "pieces": list(pieces), **counts}
    phases = tuple(Phase(name, seconds, factor * load_rps) for name, factor, seconds in courses)
    return Workload(trace.source, seed, phases, table, provenance, plan.pool_events())


def _stay(
    lengths: SessionLengths, base: Sessions, marks: Floats, factors: Sequence[float], bounds: Floats, place: int
) -> Sessions:
    """The stays that begin with piece `place`: of sessions that it lets in and the one before did not, until one does not."""
    begins = (marks < factors[place]) & ((marks >= factors[place - 1]) if place else True)
    until = np.full(len(base), len(factors))
    for later in range(len(factors) - 1, place, -1):
        until[marks >= factors[later]] = later
    chosen = np.flatnonzero(begins)
    where, starts = base.place[chosen], base.start_s[chosen]
    stop = np.zeros(len(chosen), dtype=np.int64)
    first = turns_before(lengths, where, starts, float(bounds[place]))
    for end in np.unique(until[chosen]):
        some = np.flatnonzero(until[chosen] == end)
        stop[some] = turns_before(lengths, where[some], starts[some], float(bounds[end]))
    kept = np.flatnonzero(stop > first)
    return Sessions(where[kept], base.reuse[chosen][kept], starts[kept], first[kept], stop[kept])
