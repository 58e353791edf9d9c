"""Which sessions are sent, and their requests in columns. It does not know why they were chosen or what serves them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads.content import AGAIN, REPLY, USER
from workloads.lengths import SessionLengths, prompt_tokens
from workloads.mixing import content_ids
from workloads.request_table import UNKNOWN_US, RequestTable
from workloads.trace_table import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sessions:
    """Sessions to send: place among the usable conversations, content pass, start, and turns [first, stop)."""

    place: Ints
    reuse: Ints
    start_s: Floats
    first: Ints
    stop: Ints

    def __len__(self) -> int:
        return len(self.place)


def turns_before(lengths: SessionLengths, place: Ints, start_s: Floats, at_s: float) -> Ints:
    """For each session, how many of its turns are nominally due before `at_s`: due times ascend within a session."""
    turns = lengths.turns[place]
    if not len(turns):
        return turns
    bounds = np.cumsum(turns) - turns
    due_s = lengths.due_s[flat_turns(lengths.first[place], turns)] + np.repeat(start_s, turns)
    return np.add.reduceat(due_s < at_s, bounds, dtype=np.int64)


def turns_possible(lengths: SessionLengths, place: Ints, start_s: Floats, first: Ints, at_s: float) -> Ints:
    """For each session, how many of its turns could come before `at_s`: turn `first` at its nominal time, the others as soon as
    answers that take no time allow."""
    turns = lengths.turns[place]
    if not len(turns):
        return turns
    begin = lengths.first[place] + np.minimum(first, turns - 1)
    bounds = np.cumsum(turns) - turns
    shift_s = start_s + lengths.due_s[begin] - lengths.soonest_s[begin]
    soonest_s = lengths.soonest_s[flat_turns(lengths.first[place], turns)] + np.repeat(shift_s, turns)
    return np.add.reduceat(soonest_s < at_s, bounds, dtype=np.int64)


def due_times(lengths: SessionLengths, sessions: Sessions) -> Floats:
    """Nominal due time of every sent turn, in request order."""
    kept = sessions.stop - sessions.first
    flat = flat_turns(lengths.first[sessions.place] + sessions.first, kept)
    return np.asarray(lengths.due_s[flat] + np.repeat(sessions.start_s, kept))


def request_table(
    trace: Trace,
    lengths: SessionLengths,
    sessions: Sessions,
    *,
    session_id: int = 0,
    deadline_us: int = UNKNOWN_US,
    absolute: bool = False,
) -> RequestTable:
    """The requests of the sessions in their order, session ids counting on from `session_id`.

    A session's first sent turn carries its whole history and an arrival time; later ones their think time, or with `absolute`
    an arrival time too.
    """
    kept = sessions.stop - sessions.first
    place = lengths.index[sessions.place]
    flat = flat_turns(lengths.first[sessions.place] + sessions.first, kept)
    turn = flat_turns(sessions.first, kept)
    begins = np.zeros(len(flat), dtype=bool)
    begins[np.cumsum(kept) - kept] = True
    due_us = np.rint(due_times(lengths, sessions) * 1e6).astype(np.int64)
    timed = np.ones(len(flat), dtype=bool) if absolute else begins
    new_bounds, new_ids, new_tokens = _new_segments(trace, lengths, sessions)
    return RequestTable(
        session_id=np.repeat(np.arange(session_id, session_id + len(sessions)), kept),
        turn=turn,
        arrival_us=np.where(timed, due_us, UNKNOWN_US),
        think_us=np.where(timed, UNKNOWN_US, np.rint(lengths.think_s[flat] * 1e6).astype(np.int64)),
        prompt_tokens=lengths.prompt[flat],
        reply_id=content_ids(REPLY, np.repeat(place, kept), turn, np.repeat(sessions.reuse, kept)),
        output_tokens=lengths.output[flat],
        tenant=np.repeat(trace.tenant[place].astype(np.int64), kept),
        deadline_us=np.full(len(flat), deadline_us, dtype=np.int64),
        extends=~begins & ~trace.restarts[flat],
        new_bounds=new_bounds,
        new_ids=new_ids,
        new_tokens=new_tokens,
    )


def whole_trace(trace: Trace) -> RequestTable:
    """Every turn of the trace once, as it is, without times: for statistics over prompts."""
    n = len(trace)
    lengths = SessionLengths(
        index=np.arange(n),
        first=trace.turn_bounds[:-1],
        turns=trace.turns,
        prompt=prompt_tokens(trace),
        output=np.maximum(trace.reply_tokens.astype(np.int64), 1),
        due_s=np.zeros(trace.turn_count),
        think_s=np.zeros(trace.turn_count),
        soonest_s=np.zeros(trace.turn_count),
        counts={},
    )
    zeros = np.zeros(n, dtype=np.int64)
    return request_table(trace, lengths, Sessions(np.arange(n), zeros, np.zeros(n), zeros, trace.turns))


def _new_segments(trace: Trace, lengths: SessionLengths, sessions: Sessions) -> tuple[Ints, Ints, Ints]:
    """(bounds a request, content ids, tokens) of what each prompt adds to the one before it.

    Built from units: of each session its prefix, then of each turn up to the last its new segments and, where a later request
    of the table does not imply it, its reply. Turns before a session's first sent one belong to that request's history, from
    their last restart on.
    """
    place = lengths.index[sessions.place]
    base = _history_from(trace, lengths, sessions)
    units = 1 + sessions.stop - base
    session = np.repeat(np.arange(len(sessions)), units)
    head = np.zeros(int(units.sum()), dtype=bool)
    head[np.cumsum(units) - units] = True
    turn = flat_turns(base, units) - 1
    flat = np.where(head, 0, lengths.first[sessions.place][session] + turn)
    prefix_from, prefix_to = trace.prefix_bounds[:-1][place], trace.prefix_bounds[1:][place]
    starts_whole = (base == 0) & ~trace.restarts[lengths.first[sessions.place]]
    known = np.diff(trace.segment_bounds)[flat]
    news = np.where(head, np.where(starts_whole, prefix_to - prefix_from, 0)[session], np.maximum(known, 1))
    replies = ~head & (turn < sessions.first[session])
    size = news + replies
    unit = np.repeat(np.arange(len(size)), size)
    place_in = np.arange(len(unit)) - np.repeat(np.cumsum(size) - size, size)
    is_reply = replies[unit] & (place_in == news[unit])
    is_prefix = head[unit]
    in_trace = ~is_prefix & ~is_reply & (known[unit] > 0)
    plain = ~is_prefix & ~is_reply & ~in_trace
    ids = np.empty(len(unit), dtype=np.int64)
    tokens = np.empty(len(unit), dtype=np.int64)
    reuse, where = sessions.reuse[session[unit]], place[session[unit]]
    at = prefix_from[session[unit[is_prefix]]] + place_in[is_prefix]
    ids[is_prefix], tokens[is_prefix] = trace.prefix_ids[at], trace.prefix_tokens[at]
    at = trace.segment_bounds[:-1][flat[unit[in_trace]]] + place_in[in_trace]
    again = reuse[in_trace]
    ids[in_trace] = np.where(again == 0, trace.segment_ids[at], content_ids(AGAIN, trace.segment_ids[at], again))
    tokens[in_trace] = trace.segment_tokens[at]
    for chosen, kind in ((plain, USER), (is_reply, REPLY)):
        ids[chosen] = content_ids(kind, where[chosen], turn[unit[chosen]], reuse[chosen])
    tokens[plain] = np.maximum(trace.user_tokens[flat[unit[plain]]], 1)
    tokens[is_reply] = lengths.output[flat[unit[is_reply]]]
    kept = sessions.stop - sessions.first
    owner = (np.cumsum(kept) - kept)[session] + np.maximum(turn - sessions.first[session], 0)
    counts = np.bincount(owner, weights=size, minlength=int(kept.sum())).astype(np.int64)
    return np.concatenate([[0], np.cumsum(counts)]), ids, tokens


def _history_from(trace: Trace, lengths: SessionLengths, sessions: Sessions) -> Ints:
    """The turn at which the prompt of each session's first sent turn begins: 0, or its last restart."""
    if not trace.restarts.any():
        return np.zeros(len(sessions), dtype=np.int64)
    restart = np.where(trace.restarts, np.arange(trace.turn_count), -1)
    first = lengths.first[sessions.place]
    last = np.maximum.accumulate(restart)[first + sessions.first]
    return np.asarray(np.maximum(last - first, 0))


def flat_turns(first: Ints, counts: Ints) -> Ints:
    """first[i], first[i]+1, … counts[i] of them, for every i."""
    return np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts - first, counts)
