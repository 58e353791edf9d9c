"""Trace + plan + load + seed → Workload: which turn of which session is due when. It does not know who serves it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.arrivals import TraceClock, is_steady, mean_factor, needs_clock, session_arrivals
from workloads.draws import generator
from workloads.lengths import SessionLengths, session_lengths
from workloads.plan import Plan
from workloads.request_table import UNKNOWN_US, RequestTable
from workloads.selection import has_chains, session_keys
from workloads.sessions import Sessions, due_times, flat_turns, request_table, turns_before, turns_possible
from workloads.trace_table import Trace
from workloads.triggers import TRIGGERS, Extra, Scene
from workloads.workload import Phase, Workload

__all__ = ["Plan", "check_usable", "synthesize"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LONGEST_PAST_S = 86_400.0
_LATER = 32  # quantiles of the due times that a bent load is planned with
_ANY_PASS = 1 << 48  # content passes of sessions in trace order, where trace arrivals with passes of their own stand beside them
SESSION_CHOICE = "trace order, from a start drawn by the seed, in passes; the spike's turns by a permutation drawn by the seed"


def synthesize(trace: Trace, plan: Plan, load_rps: float, seed: int) -> Workload:
    """Everything that will be sent, with `load_rps` first attempts (turns) due per second where nothing modulates the load.

    Sessions arrive at `load_rps` / mean turns, in trace order from a start drawn by the seed (`trace` arrivals bring their own
    sessions); used-up traces start again with fresh content ids, prefixes (system prompts) excepted. The base load is the same
    for one seed whatever the trigger; a trigger's single-turn sessions follow after all base requests, those of a smaller spike
    first, so that request ids agree too. Times are whole microseconds. Raises ValueError in one line.
    """
    if isinstance(load_rps, bool) or not 0 < load_rps < float("inf"):
        raise ValueError(f"load_rps is {load_rps!r}; expected a number > 0")
    lengths = session_lengths(trace, plan.pace, seed)
    past_s, rate = session_rate(lengths, plan, load_rps)
    everyone, base, counts = base_sessions(trace, plan, lengths, past_s, rate, seed)
    deadline_us = UNKNOWN_US if plan.deadline_s is None else round(plan.deadline_s * 1e6)
    requests = request_table(trace, lengths, base, deadline_us=deadline_us, absolute=plan.mode == "absolute")
    scene = Scene(
        *(trace, lengths, everyone, load_rps, seed, plan.trigger_s, plan.trigger["d_s"], plan.trigger, len(base), deadline_us),
        nominal_tpot_s=plan.nominal_tpot_s,
    )
    extra = TRIGGERS[plan.trigger["kind"]].extra(scene)
    phases = _phases(plan, lengths, extra, rate, past_s, load_rps, seed)
    table = RequestTable.joined([requests, extra.table])
    due_s = np.concatenate([due_times(lengths, base), extra.table.arrival_us / 1e6])
    provenance: dict[str, object] = {
        "trace": dict(trace.provenance),
        "plan": plan.to_json(),
        "load_rps": load_rps,
        "session_choice": SESSION_CHOICE,
        "session_rate_rps": rate,
        "mean_turns": lengths.mean_turns,
        "past_s": past_s,
        "sessions": len(base),
        "trigger_sessions": len(extra.table),
        **counts,
        **lengths.counts,
        "phases": _phase_facts(phases, due_s, table),
    }
    return Workload(trace.source, seed, phases, table, provenance, plan.pool_events())


def check_usable(trace: Trace, plan: Plan) -> None:
    """ValueError where `synthesize` could make nothing of this trace under this plan, whatever the load and seed."""
    lengths = session_lengths(trace, plan.pace, 0)
    if plan.mode == "absolute" and int(lengths.turns.max()) > 1 and np.isnan(trace.gap_s).all() and np.isnan(trace.think_s).all():
        raise ValueError("mode is 'absolute', but the trace does not tell when later turns come; use mode think")
    horizon_s = sum(plan.durations().values())
    session_arrivals(plan.arrival, 1.0, 0.0, min(horizon_s, 10.0), 0, _clock(trace, plan, lengths))


def session_rate(lengths: SessionLengths, plan: Plan, load_rps: float) -> tuple[float, float]:
    """(seconds before t=0 in which sessions may have begun, sessions per second) for `load_rps` turns per second."""
    past_s = min(float(lengths.last_due_s.max()), _LONGEST_PAST_S) if plan.stationary_start else 0.0
    return past_s, load_rps / (lengths.mean_turns_within(past_s) if plan.stationary_start else lengths.mean_turns)


def _clock(trace: Trace, plan: Plan, lengths: SessionLengths) -> TraceClock | None:
    """The usable sessions' own starts; None where nothing asks for them, or the trace has no times."""
    if not (needs_clock(plan.arrival) and trace.has_timestamps):
        return None
    return TraceClock.of(trace.start_s[lengths.index], session_keys(trace)[lengths.index] if has_chains(trace) else None)


def base_sessions(
    trace: Trace, plan: Plan, lengths: SessionLengths, past_s: float, rate: float, seed: int
) -> tuple[Sessions, Sessions, dict[str, int]]:
    """All sessions that start from `past_s` before t=0 on, and those with a turn nominally due in the run.

    The latter are cut to the turns that could come within the horizon if answers took no time: a pool that is faster than the
    nominal pace must not run out of turns. What a replay does not reach is not due.
    """
    horizon_s = sum(plan.durations().values())
    usable = len(lengths.index)
    rotation = int(generator(seed, "session-rotation").integers(usable))
    offset = float(generator(seed, "trace-offset").random())
    made = session_arrivals(plan.arrival, rate, past_s, horizon_s, seed, _clock(trace, plan, lengths), offset)
    place, reuse = _sessions_of(made.place, made.copy, made.start_s, rotation, usable)
    first = turns_before(lengths, place, made.start_s, 0.0)
    nominal = turns_before(lengths, place, made.start_s, horizon_s)
    stop = turns_possible(lengths, place, made.start_s, first, horizon_s)
    everyone = Sessions(place, reuse, made.start_s, first, stop)
    kept = np.flatnonzero(nominal > first)
    base = Sessions(place[kept], reuse[kept], made.start_s[kept], first[kept], stop[kept])
    return (
        everyone,
        base,
        {
            "sessions_reused": len(kept) - len(np.unique(base.place)),
            "sessions_in_mid_life": int((base.first > 0).sum()),
            "turns_before_start": int(base.first.sum()),
            "turns_beyond_horizon": int((lengths.turns[base.place] - base.stop).sum()),
            "turns_in_reserve": int((stop - nominal)[kept].sum()),
        },
    )


def _sessions_of(place: Ints, copy: Ints, start_s: Floats, rotation: int, usable: int) -> tuple[Ints, Ints]:
    """Which usable session each arrival is, and in which content pass: its own, or the next in trace order."""
    free = place < 0
    count = np.cumsum(free) - 1
    reuse = (count - int(np.count_nonzero(free[: np.searchsorted(start_s, 0.0)]))) // usable
    offset = 0 if free.all() else _ANY_PASS
    return np.where(free, (rotation + count) % usable, place), np.where(free, reuse + offset, copy)


def _phases(
    plan: Plan, lengths: SessionLengths, extra: Extra, rate: float, past_s: float, load_rps: float, seed: int
) -> tuple[Phase, ...]:
    """warmup, steady, trigger, recovery with their planned loads: the base as modulated, and what the trigger adds."""
    made, begin_s = [], 0.0
    steady = plan.stationary_start and is_steady(plan.arrival)
    for name, duration_s in plan.durations().items():
        if steady or not duration_s:
            base_rps = load_rps
        else:
            base_rps = _turn_rate(plan, lengths, rate, past_s, begin_s, begin_s + duration_s, seed)
        made.append(Phase(name, duration_s, base_rps + (extra.planned_rps if name == "trigger" else 0.0)))
        begin_s += duration_s
    return tuple(made)


def _turn_rate(plan: Plan, lengths: SessionLengths, rate: float, past_s: float, begin_s: float, end_s: float, seed: int) -> float:
    """Turns nominally due per second over [begin, end): session starts, bent as the plan says, each followed by its later turns.

    λ · E[Σ_j f(t − due_j)], over quantiles of the turns' due times; nobody starts before −past.
    """
    chosen = lengths.due_s[flat_turns(lengths.first, lengths.turns)]
    later = np.unique(np.round(np.quantile(chosen, (np.arange(_LATER) + 0.5) / _LATER), 3)) if chosen.any() else np.zeros(1)
    place = np.searchsorted((later[1:] + later[:-1]) / 2, chosen)
    weight = np.bincount(place, minlength=len(later)) / len(lengths.turns)
    total = 0.0
    for due_s, turns in zip(later.tolist(), weight.tolist(), strict=True):
        since_s, until_s = max(-past_s, begin_s - due_s), end_s - due_s
        if until_s > since_s:
            total += turns * mean_factor(plan.arrival, since_s, until_s, seed) * (until_s - since_s)
    return rate * total / (end_s - begin_s)


def _phase_facts(phases: tuple[Phase, ...], due_s: Floats, table: RequestTable) -> list[dict[str, Any]]:
    """Planned and made load a phase. Later turns count at their nominal due time: the replay's own may be later."""
    bounds = np.concatenate([[0.0], np.cumsum([p.duration_s for p in phases])])
    inside = due_s < bounds[-1]
    phase = np.clip(np.searchsorted(bounds, due_s[inside], side="right") - 1, 0, len(phases) - 1)
    made = np.bincount(phase, minlength=len(phases))
    prompt = np.bincount(phase, weights=table.prompt_tokens[inside], minlength=len(phases))
    output = np.bincount(phase, weights=table.output_tokens[inside], minlength=len(phases))
    return [
        {
            "name": p.name,
            "duration_s": p.duration_s,
            "planned_rps": p.load_rps,
            "made_rps": int(made[i]) / p.duration_s if p.duration_s else 0.0,
            "requests": int(made[i]),
            "prompt_tokens": int(prompt[i]),
            "output_tokens": int(output[i]),
        }
        for i, p in enumerate(phases)
    ]
