"""A trace as flat arrays of what a session will cost nominally: turns, tokens, due times. It knows no arrivals."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from workloads.draws import generator
from workloads.trace_table import Trace

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
T = TypeVar("T", np.float64, np.int64)


@dataclass(frozen=True, slots=True)
class Pace:
    """How sessions are taken to proceed before anybody answers: see `workloads.plan.Plan`, which has the same fields."""

    mode: str = "think"
    nominal_tpot_s: float = 0.02
    think_median_s: float = 10.0
    think_sigma: float = 1.0
    max_context_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class SessionLengths:
    """One entry a usable conversation (`index`: its place in the trace) and, flat, one a turn of the trace.

    Conversation i's usable turns are the flat ones from `first[i]` on, `turns[i]` of them. `prompt` is a turn's whole prompt in
    tokens, `output` its answer, `due_s` its nominal time after its session's start, `think_s` its think time (0 for turn 0),
    `soonest_s` its time if every answer came at once.
    Counts tell what was left out or changed: `turns_beyond_context`, `sessions_beyond_context`, `empty_users`,
    `empty_replies`, `think_from_gaps`, `think_drawn`.
    """

    index: Ints
    first: Ints
    turns: Ints
    prompt: Ints
    output: Ints
    due_s: Floats
    think_s: Floats
    soonest_s: Floats
    counts: dict[str, int]

    @property
    def mean_turns(self) -> float:
        return float(self.turns.mean())

    def mean_turns_within(self, past_s: float) -> float:
        """Turns a session that are nominally due within `past_s` of its start: a run with that past meets no later ones."""
        total = np.concatenate([[0], np.cumsum(self.due_s <= past_s)])
        return float((total[self.first + self.turns] - total[self.first]).mean())

    @property
    def last_due_s(self) -> Floats:
        """Nominal time of each session's last turn after its start."""
        return np.asarray(self.due_s[self.first + self.turns - 1])


def session_lengths(trace: Trace, pace: Pace, seed: int) -> SessionLengths:
    """Flatten the trace at the given pace; missing think times are drawn, one a turn of the trace, keyed by the seed.

    A session ends before the first turn whose prompt and answer exceed the context. Raises ValueError when no turn is left.
    """
    if not len(trace):
        raise ValueError(f"trace {trace.source!r} ({trace.provenance['file']}) holds no conversation")
    turns, starts = trace.turns, trace.turn_bounds[:-1]
    prompt, output = prompt_tokens(trace), np.maximum(trace.reply_tokens.astype(np.int64), 1)
    usable = np.ones(len(prompt), dtype=bool) if pace.max_context_tokens is None else prompt + output <= pace.max_context_tokens
    kept = _before_first(~usable, starts, turns)
    within = np.arange(len(prompt)) - np.repeat(starts, turns) < np.repeat(kept, turns)
    think_s, facts = _think_times(trace, output, pace, seed)
    answered_s = np.concatenate([[0.0], output[:-1] * pace.nominal_tpot_s])
    step_s = answered_s + think_s
    if pace.mode == "absolute":
        step_s = np.where(np.isnan(trace.gap_s), step_s, trace.gap_s)
    step_s[starts] = 0.0
    chosen = np.flatnonzero(kept)
    if not len(chosen):
        raise ValueError(f"max_context_tokens is {pace.max_context_tokens}; no conversation of {trace.source!r} fits into it")
    return SessionLengths(
        index=chosen,
        first=starts[chosen],
        turns=kept[chosen],
        prompt=prompt,
        output=output,
        due_s=running_total(step_s, starts),
        think_s=think_s,
        soonest_s=running_total(step_s if pace.mode == "absolute" else think_s, starts),
        counts={
            "turns_beyond_context": int((~within).sum()),
            "sessions_beyond_context": int((kept == 0).sum()),
            "empty_users": int((trace.user_tokens[within] == 0).sum()),
            "empty_replies": int((trace.reply_tokens[within] == 0).sum()),
            **facts,
        },
    )


def prompt_tokens(trace: Trace) -> Ints:
    """The whole prompt of every turn, in tokens: prefix, history with its replies, new content (at least one token)."""
    starts = trace.turn_bounds[:-1]
    user = np.maximum(trace.user_tokens.astype(np.int64), 1)
    reply = np.maximum(trace.reply_tokens.astype(np.int64), 1)
    fresh = trace.restarts.copy()
    fresh[starts] = True
    groups = np.flatnonzero(fresh)
    prefix = np.zeros(len(user), dtype=np.int64)
    prefix[starts] = np.where(trace.restarts[starts], 0, _prefix_tokens(trace))
    return np.asarray(running_total(prefix + user + reply, groups) - reply)


def _prefix_tokens(trace: Trace) -> Ints:
    total = np.concatenate([[0], np.cumsum(trace.prefix_tokens, dtype=np.int64)])
    return np.asarray(total[trace.prefix_bounds[1:]] - total[trace.prefix_bounds[:-1]])


def running_total(values: npt.NDArray[T], starts: Ints) -> npt.NDArray[T]:
    """Cumulative sums that begin anew at every start (the first start is 0)."""
    total = np.cumsum(values)
    lengths = np.diff(np.append(starts, len(values)))
    return np.asarray(total - np.repeat(total[starts] - values[starts], lengths))


def _before_first(stops: npt.NDArray[np.bool_], starts: Ints, turns: Ints) -> Ints:
    """How many turns of each session come before its first stop."""
    place = np.where(stops, np.arange(len(stops)), len(stops))
    return np.asarray(np.minimum(np.minimum.reduceat(place, starts) - starts, turns))


def _think_times(trace: Trace, output: Ints, pace: Pace, seed: int) -> tuple[Floats, dict[str, int]]:
    """Think times of all turns (0 for the first of a session); how many came from gaps, and how many had to be drawn.

    A trace that has only the gap between two turns' starts leaves for thinking what the nominal answer does not take.
    """
    think_s = trace.think_s.copy()
    think_s[trace.turn_bounds[:-1]] = 0.0
    missing = np.isnan(think_s)
    answered_s = np.concatenate([[0.0], output[:-1] * pace.nominal_tpot_s])
    from_gaps = missing & ~np.isnan(trace.gap_s)
    think_s = np.where(from_gaps, np.round(np.maximum(0.0, trace.gap_s - answered_s), 6), think_s)
    missing &= ~from_gaps
    if missing.any():
        drawn = generator(seed, "think-times").standard_normal(len(think_s)) * pace.think_sigma
        think_s = np.where(missing, np.round(pace.think_median_s * np.exp(drawn), 6), think_s)
    return think_s, {"think_from_gaps": int(from_gaps.sum()), "think_drawn": int(missing.sum())}
