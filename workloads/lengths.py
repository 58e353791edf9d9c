"""A trace as flat arrays of what a session will cost nominally: turns, tokens, due times. It knows no arrivals."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from workloads.conversation import Trace
from workloads.draws import generator
from workloads.plan import Plan

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
T = TypeVar("T", np.float64, np.int64)


@dataclass(frozen=True, slots=True)
class SessionLengths:
    """One entry a usable conversation (`index`: its place in the trace) and, flat, one a usable turn from `first[i]` on.

    `due_s` is the turn's nominal time after its session's start, `think_s` its think time (0 for turn 0). Counts tell what was
    left out or changed: `turns_beyond_context`, `sessions_beyond_context`, `empty_users`, `empty_replies`, `think_drawn`.
    """

    index: Ints
    first: Ints
    turns: Ints
    due_s: Floats
    think_s: Floats
    counts: dict[str, int]

    @property
    def mean_turns(self) -> float:
        return float(self.turns.mean())

    @property
    def last_due_s(self) -> Floats:
        """Nominal time of each session's last turn after its start."""
        return np.asarray(self.due_s[self.first + self.turns - 1])


def session_lengths(trace: Trace, plan: Plan, seed: int) -> SessionLengths:
    """Flatten the trace under the plan's limits; missing think times are drawn, one a turn of the trace, keyed by the seed.

    Raises ValueError when no turn is left.
    """
    turns = np.array([len(c.turns) for c in trace.conversations], dtype=np.int64)
    if not len(turns):
        raise ValueError(f"trace {trace.source!r} ({trace.provenance['file']}) holds no conversation")
    starts = np.cumsum(turns) - turns
    user_true = np.array([t.user_tokens for c in trace.conversations for t in c.turns], dtype=np.int64)
    reply_true = np.array([t.reply_tokens for c in trace.conversations for t in c.turns], dtype=np.int64)
    user, reply = np.maximum(user_true, 1), np.maximum(reply_true, 1)
    prefix = np.array([sum(s.tokens for s in c.prefix) for c in trace.conversations], dtype=np.int64)
    whole = np.repeat(prefix, turns) + _running_total(user + reply, starts, turns)
    usable = np.ones(len(user), dtype=bool) if plan.max_context_tokens is None else whole <= plan.max_context_tokens
    kept = np.add.reduceat(usable, starts, dtype=np.int64)  # context only grows, so usable turns come first
    think_s, drawn = _think_times(trace, starts, plan, seed)
    step_s = np.concatenate([[0.0], reply[:-1] * plan.nominal_tpot_s]) + think_s
    step_s[starts] = 0.0
    chosen = np.flatnonzero(kept)
    if not len(chosen):
        raise ValueError(f"max_context_tokens is {plan.max_context_tokens}; no conversation of {trace.source!r} fits into it")
    return SessionLengths(
        index=chosen,
        first=starts[chosen],
        turns=kept[chosen],
        due_s=_running_total(step_s, starts, turns),
        think_s=think_s,
        counts={
            "turns_beyond_context": int((~usable).sum()),
            "sessions_beyond_context": int((kept == 0).sum()),
            "empty_users": int((user_true[usable] == 0).sum()),
            "empty_replies": int((reply_true[usable] == 0).sum()),
            "think_drawn": drawn,
        },
    )


def _running_total(values: npt.NDArray[T], starts: Ints, turns: Ints) -> npt.NDArray[T]:
    """Cumulative sums that begin anew at every start."""
    total = np.cumsum(values)
    return np.asarray(total - np.repeat(total[starts] - values[starts], turns))


def _think_times(trace: Trace, starts: Ints, plan: Plan, seed: int) -> tuple[Floats, int]:
    """Think times of all turns (0 for the first of a session), and how many had to be drawn."""
    known = [t.think_s for c in trace.conversations for t in c.turns]
    think_s = np.array([np.nan if t is None else t for t in known], dtype=np.float64)
    think_s[starts] = 0.0
    missing = np.isnan(think_s)
    if missing.any():
        drawn = generator(seed, "think-times").standard_normal(len(think_s)) * plan.think_sigma
        think_s = np.where(missing, np.round(plan.think_median_s * np.exp(drawn), 6), think_s)
    return think_s, int(missing.sum())
