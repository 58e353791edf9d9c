"""Which sessions of a trace are used: filters, a share of the users, the train or the holdout part. It knows no arrivals."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.columns import flat_strings
from workloads.draws import purpose_id
from workloads.mixing import uniforms
from workloads.trace_table import Floats, Ints, Trace

_SPLIT, _SHARE = purpose_id("holdout-split"), purpose_id("session-share")
_RANGES = ("turns", "input_tokens", "output_tokens", "window_s")
PARTS = ("all", "train", "holdout")


@dataclass(frozen=True, slots=True)
class Selection:
    """Conditions that a session must meet, all of them; whole sessions go or stay.

    `language`, `model`: one of these names (case ignored). `turns`, `input_tokens` (the longest prompt, history included),
    `output_tokens` (the longest answer): [least, most], null = open. `window_s`: starts in [begin, end) seconds after the trace's
    first event. `share` keeps that share of the sessions, drawn by `seed` (a smaller share is a subset). `part` train or holdout
    keeps 1 − `holdout` or `holdout` of the sessions, by the session's id: the same for every seed and order.
    ValueError on a bad value names the key, the value and what is allowed.
    """

    language: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    turns: tuple[float | None, float | None] = (None, None)
    input_tokens: tuple[float | None, float | None] = (None, None)
    output_tokens: tuple[float | None, float | None] = (None, None)
    window_s: tuple[float | None, float | None] = (None, None)
    share: float = 1.0
    seed: int = 0
    part: str = "all"
    holdout: float = 0.2

    def __post_init__(self) -> None:
        for name in ("language", "model"):
            names = getattr(self, name)
            if not isinstance(names, tuple) or not all(isinstance(n, str) for n in names):
                raise ValueError(f"select.{name} is {names!r}; expected a list of names")
        for name in _RANGES:
            pair = getattr(self, name)
            if (
                not isinstance(pair, tuple)
                or len(pair) != 2
                or any(isinstance(v, bool) or not isinstance(v, int | float | None) for v in pair)
            ):
                raise ValueError(
                    f"select.{name} is {list(pair) if isinstance(pair, tuple) else pair!r}; expected [least, most], null = open"
                )
            if None not in pair and pair[0] > pair[1]:
                raise ValueError(f"select.{name} is {list(pair)!r}; the least is above the most")
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share <= 1:
            raise ValueError(f"select.share is {self.share!r}; expected > 0 and ≤ 1")
        if self.part not in PARTS:
            raise ValueError(f"select.part is {self.part!r}; allowed: {', '.join(PARTS)}")
        if isinstance(self.holdout, bool) or not isinstance(self.holdout, int | float) or not 0 < self.holdout < 1:
            raise ValueError(f"select.holdout is {self.holdout!r}; expected > 0 and < 1")

    @property
    def chooses(self) -> bool:
        return self != Selection(seed=self.seed, holdout=self.holdout)

    @staticmethod
    def of(data: Mapping[str, Any]) -> "Selection":
        """From plain data (lists for tuples); ValueError for an unknown key."""
        known = [f.name for f in fields(Selection)]
        for key in data:
            if key not in known:
                raise ValueError(f"select.{key} is unknown; allowed: {', '.join(known)}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return Selection(**values)

    def to_json(self) -> dict[str, Any]:
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


def select(trace: Trace, selection: Selection) -> Trace:
    """The sessions that meet every condition, in their order; the others are counted by the first condition they fail.

    Raises ValueError when a condition asks for what the trace does not hold (a language, a clock) or nothing is left.
    """
    if not selection.chooses:
        return trace
    kept = np.ones(len(trace), dtype=bool)
    dropped = dict(trace.provenance["rows_dropped"])
    for reason, passes in _conditions(trace, selection):
        failed = int((kept & ~passes).sum())
        if failed:
            dropped[reason] = dropped.get(reason, 0) + failed
        kept &= passes
    if not kept.any():
        raise ValueError(f"select keeps no session of {trace.source!r} ({trace.provenance['file']}): {dropped}")
    return trace.taken(np.flatnonzero(kept), {**trace.provenance, "rows_dropped": dropped})


def _conditions(trace: Trace, selection: Selection) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    made: list[tuple[str, npt.NDArray[np.bool_]]] = []
    for name in ("language", "model"):
        wanted = getattr(selection, name)
        if wanted:
            made.append((f"selected out (sessions): {name} not {', '.join(wanted)}", _named(trace, name, wanted)))
    measures = {"turns": _turns, "input_tokens": _longest_prompt, "output_tokens": _longest_answer, "window_s": _starts}
    for name, measure in measures.items():
        least, most = getattr(selection, name)
        if (least, most) != (None, None):
            values = measure(trace)
            below = values >= (-np.inf if least is None else least)
            limit = np.inf if most is None else most
            above = values < limit if name == "window_s" else values <= limit
            made.append((f"selected out (sessions): {name} not in {[least, most]}", below & above))
    if selection.part != "all":
        held = uniforms(_SPLIT, session_keys(trace)) < selection.holdout
        made.append(
            (f"selected out (sessions): not in the {selection.part} part", held if selection.part == "holdout" else ~held)
        )
    if selection.share < 1:
        drawn = uniforms(_SHARE, np.full(len(trace), selection.seed), session_keys(trace)) < selection.share
        made.append((f"selected out (sessions): share {selection.share:g}, seed {selection.seed}", drawn))
    return made


def has_chains(trace: Trace) -> bool:
    """True for a trace whose rows stand alone though their prompts tell which belong to one conversation (block ids)."""
    return not trace.provenance["has_sessions"] and len(trace.segment_ids) > 0


def session_keys(trace: Trace) -> Ints:
    """A stable integer for each session: its id's hash, or its place where the source names none.

    Rows that only share blocks are named by their first own block: a conversation's rows stay or go together, or what they share
    would be thinned away (a quarter of Mooncake's rows keeps half of its reuse, a quarter of its conversations all of it).
    """
    import xxhash

    if has_chains(trace):
        first = trace.segment_bounds[:-1][trace.turn_bounds[:-1]]
        known = np.diff(trace.segment_bounds)[trace.turn_bounds[:-1]] > 0
        return np.where(known, trace.segment_ids[np.minimum(first, len(trace.segment_ids) - 1)], np.arange(len(trace)))
    if "conversation_id" not in trace.table.column_names or trace.table.column("conversation_id").null_count:
        return np.arange(len(trace), dtype=np.int64)
    ids = trace.table.column("conversation_id").to_pylist()
    return np.array([xxhash.xxh3_64_intdigest(i.encode()) >> 1 for i in ids], dtype=np.int64)


def _named(trace: Trace, column: str, wanted: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    values = flat_strings(trace.table, column)
    if not any(values):
        raise ValueError(f"select.{column} is {list(wanted)!r}; the trace {trace.source!r} names no {column}")
    names = {w.casefold() for w in wanted}
    return np.array([v is not None and v.casefold() in names for v in values])


def _turns(trace: Trace) -> Floats:
    return trace.turns.astype(np.float64)


def _longest_prompt(trace: Trace) -> Floats:
    from workloads.lengths import prompt_tokens

    return np.maximum.reduceat(prompt_tokens(trace).astype(np.float64), trace.turn_bounds[:-1])


def _longest_answer(trace: Trace) -> Floats:
    return np.maximum.reduceat(trace.reply_tokens.astype(np.float64), trace.turn_bounds[:-1])


def _starts(trace: Trace) -> Floats:
    if not trace.has_timestamps:
        raise ValueError(f"select.window_s needs a clock; the trace {trace.source!r} has no timestamps")
    return trace.start_s
