"""Trace + plan + load + seed → Workload: which turn of which session is due when. It does not know who serves it."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.arrivals import own_clock, real_times, unit_arrivals
from workloads.content import prompts_between
from workloads.conversation import Trace
from workloads.draws import generator
from workloads.lengths import SessionLengths, session_lengths
from workloads.plan import Plan
from workloads.request import Phase, Request, Workload

__all__ = ["Plan", "check_usable", "synthesize"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SPIKE_PASS = 1 << 32  # content passes of the spike's sessions, far from those of the base load
_LONGEST_PAST_S = 86_400.0
SESSION_CHOICE = "trace order, from a start drawn by the seed, in passes; the spike's turns by a permutation drawn by the seed"


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Sessions to emit: place among the usable conversations, content pass, start and kept turns [first, stop)."""

    place: Ints
    reuse: Ints
    start_s: Floats
    first: Ints
    stop: Ints


def synthesize(trace: Trace, plan: Plan, load_rps: float, seed: int) -> Workload:
    """Everything that will be sent, with `load_rps` first attempts (turns) due per second outside the trigger.

    Sessions arrive at `load_rps` / mean turns, in trace order from a start drawn by the seed (`trace` arrivals keep their own
    gaps); used-up traces start again with fresh content ids, prefixes (system prompts) excepted. The base load is the same for
    one seed whatever the trigger; a spike's single-turn sessions follow after all base requests, those of a smaller k first,
    so that request ids agree too. Times are whole microseconds. Raises ValueError in one line.
    """
    if isinstance(load_rps, bool) or not 0 < load_rps < float("inf"):
        raise ValueError(f"load_rps is {load_rps!r}; expected a number > 0")
    phases = plan.phases(load_rps)
    lengths = session_lengths(trace, plan, seed)
    past_s = min(float(lengths.last_due_s.max()), _LONGEST_PAST_S) if plan.stationary_start else 0.0
    base, counts = _base_sessions(trace, plan, lengths, phases, past_s, load_rps, seed)
    spike = _spike_sessions(plan, lengths, load_rps, seed)
    requests = _requests(trace, plan, lengths, base, 0, 0)
    spike_requests = _requests(trace, plan, lengths, spike, len(base.place), len(requests))
    due_s = np.concatenate([_nominal_due_s(lengths, base), _nominal_due_s(lengths, spike)])
    provenance: dict[str, object] = {
        "trace": dict(trace.provenance),
        "plan": plan.to_json(),
        "load_rps": load_rps,
        "session_choice": SESSION_CHOICE,
        "session_rate_rps": load_rps / lengths.mean_turns,
        "mean_turns": lengths.mean_turns,
        "past_s": past_s,
        "sessions": len(base.place),
        "spike_sessions": len(spike.place),
        **counts,
        **lengths.counts,
        "phases": _phase_facts(phases, due_s, [*requests, *spike_requests]),
    }
    return Workload(trace.source, seed, phases, (*requests, *spike_requests), provenance)


def check_usable(trace: Trace, plan: Plan) -> None:
    """ValueError where `synthesize` could make nothing of this trace under this plan, whatever the load and seed."""
    lengths = session_lengths(trace, plan, 0)
    if plan.arrival["process"] == "trace":
        _own_clock(trace, lengths, 0)


def _own_clock(trace: Trace, lengths: SessionLengths, rotation: int) -> Floats | None:
    """The usable conversations' own starts as a unit-rate clock; None where the trace has no times."""
    if not trace.has_timestamps:
        return None
    return own_clock([float(trace.conversations[i].start_s or 0.0) for i in lengths.index], rotation)


def _base_sessions(
    trace: Trace, plan: Plan, lengths: SessionLengths, phases: tuple[Phase, ...], past_s: float, load_rps: float, seed: int
) -> tuple[_Sessions, dict[str, int]]:
    """Sessions that start from `past_s` before t=0 on, cut to the turns nominally due within the horizon."""
    horizon_s = sum(p.duration_s for p in phases)
    usable = len(lengths.index)
    rotation = int(generator(seed, "session-rotation").integers(usable))
    own = _own_clock(trace, lengths, rotation) if plan.arrival["process"] == "trace" else None
    rate = load_rps / lengths.mean_turns
    unit = unit_arrivals(plan.arrival, generator(seed, "arrivals"), (past_s + horizon_s) * rate, own)
    start_s = real_times(unit, -past_s, [past_s, *(p.duration_s for p in phases)], [rate] * (len(phases) + 1))
    count = np.arange(len(start_s))
    place = (rotation + count) % usable
    reuse = (count - int(np.searchsorted(start_s, 0.0))) // usable
    first, stop = _turns_within(lengths, place, start_s, horizon_s)
    kept = np.flatnonzero(stop > first)
    base = _Sessions(place[kept], reuse[kept], start_s[kept], first[kept], stop[kept])
    return base, {
        "sessions_reused": len(kept) - len(np.unique(base.place)),
        "sessions_in_mid_life": int((base.first > 0).sum()),
        "turns_before_start": int(base.first.sum()),
        "turns_beyond_horizon": int((lengths.turns[base.place] - base.stop).sum()),
    }


def _turns_within(lengths: SessionLengths, place: Ints, start_s: Floats, horizon_s: float) -> tuple[Ints, Ints]:
    """For each session the turns [first, stop) nominally due in [0, horizon): due times ascend within a session."""
    turns = lengths.turns[place]
    if not len(turns):
        return turns, turns
    bounds = np.cumsum(turns) - turns
    flat = np.arange(int(turns.sum())) - np.repeat(bounds - lengths.first[place], turns)
    due_s = lengths.due_s[flat] + np.repeat(start_s, turns)
    return (
        np.add.reduceat(due_s < 0, bounds, dtype=np.int64),
        np.add.reduceat(due_s < horizon_s, bounds, dtype=np.int64),
    )


def _spike_sessions(plan: Plan, lengths: SessionLengths, load_rps: float, seed: int) -> _Sessions:
    """Single-turn sessions at extra rate (k−1)·load_rps during the trigger, ordered by mark.

    Each is a turn of the trace drawn like any other, with its whole history as a prompt that nobody has cached (the system
    prompt excepted), so that k times the requests is k times the tokens.

    One master Poisson process in the plane (time × mark), unit mark = one load_rps, made layer by layer: the extras of k are its
    points with mark < k−1, so a smaller spike is a subset of a larger one, in front.
    """
    start_s = plan.warmup_s + plan.steady_s
    times, marks = [np.empty(0)], [np.empty(0)]
    for layer in range(ceil(plan.spike_factor - 1)):
        draw = generator(seed, "spike", layer)
        n = int(draw.poisson(load_rps * plan.trigger["d_s"]))
        layer_times = start_s + draw.random(n) * plan.trigger["d_s"]
        layer_marks = layer + draw.random(n)
        order = np.argsort(layer_marks, kind="stable")
        times.append(layer_times[order])
        marks.append(layer_marks[order])
    kept = int(np.searchsorted(np.concatenate(marks), plan.spike_factor - 1))
    position = np.arange(kept)
    place_of = np.repeat(np.arange(len(lengths.turns)), lengths.turns)
    shuffled = generator(seed, "spike-turns").permutation(len(place_of))
    drawn = shuffled[position % len(shuffled)]
    place = place_of[drawn]
    turn = drawn - (np.cumsum(lengths.turns) - lengths.turns)[place]
    return _Sessions(
        place=place,
        reuse=_SPIKE_PASS + position // len(shuffled),
        start_s=np.concatenate(times)[:kept] - lengths.due_s[lengths.first[place] + turn],
        first=turn,
        stop=turn + 1,
    )


def _nominal_due_s(lengths: SessionLengths, sessions: _Sessions) -> Floats:
    """Nominal due time of every kept turn, in request order."""
    kept = sessions.stop - sessions.first
    bounds = np.cumsum(kept) - kept
    flat = np.arange(int(kept.sum())) - np.repeat(bounds - (lengths.first[sessions.place] + sessions.first), kept)
    return np.asarray(lengths.due_s[flat] + np.repeat(sessions.start_s, kept))


def _requests(
    trace: Trace, plan: Plan, lengths: SessionLengths, sessions: _Sessions, session_id: int, request_id: int
) -> list[Request]:
    """The requests of the sessions in their order, ids counting on from the given ones."""
    made: list[Request] = []
    arrival_us = np.rint((sessions.start_s + lengths.due_s[lengths.first[sessions.place] + sessions.first]) * 1e6)
    think_s = lengths.think_s.tolist()
    columns = (
        lengths.index[sessions.place],
        lengths.first[sessions.place],
        sessions.reuse,
        arrival_us.astype(np.int64),
        sessions.first,
        sessions.stop,
    )
    for index, flat, reuse, due_us, first, stop in zip(*(c.tolist() for c in columns), strict=True):
        conversation = trace.conversations[index]
        for turn, (segments, reply_id, output) in enumerate(prompts_between(conversation, index, reuse, first, stop), first):
            begins = turn == first
            made.append(
                Request(
                    request_id,
                    session_id,
                    turn,
                    due_us / 1e6 if begins else None,
                    None if begins else think_s[flat + turn],
                    segments,
                    reply_id,
                    output,
                    conversation.tenant,
                    plan.deadline_s,
                )
            )
            request_id += 1
        session_id += 1
    return made


def _phase_facts(phases: tuple[Phase, ...], due_s: Floats, requests: list[Request]) -> list[dict[str, Any]]:
    """Planned and made load a phase. Later turns count at their nominal due time: the replay's own may be later."""
    bounds = np.concatenate([[0.0], np.cumsum([p.duration_s for p in phases])])
    phase = np.clip(np.searchsorted(bounds, due_s, side="right") - 1, 0, len(phases) - 1)
    made = np.bincount(phase, minlength=len(phases))
    prompt = np.bincount(phase, weights=[r.prompt_tokens for r in requests], minlength=len(phases))
    output = np.bincount(phase, weights=[r.output_tokens for r in requests], minlength=len(phases))
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
