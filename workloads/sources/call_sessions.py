"""Single calls, each with a length and perhaps a clock, as conversations of turns. It does not know where the calls were read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workloads.sources.blocks import Blocks
from workloads.sources.source import LONGEST_GAP_US, Tally
from workloads.trace_table import SCHEMA, list_of

Ints = npt.NDArray[np.int64]
UNKNOWN = np.iinfo(np.int64).min
"""A time that is not known."""


@dataclass(frozen=True)
class Calls:
    """One entry a call, in the file's order.

    `session` is a number below len(session_ids), or −1 for a call that is a session of its own. `input_tokens` is the whole
    prompt, or with `whole_prompt` False the new message alone. Times are microseconds on one clock, `UNKNOWN` where not known.
    `whole` holds values that a conversation takes from its first call (tenant, model, language), named as in the schema.
    `blocks` are the calls' prompts in blocks of known content; each prompt then stands for itself.
    """

    session: Ints
    session_ids: list[str]
    input_tokens: Ints
    output_tokens: Ints
    start_us: Ints | None = None
    end_us: Ints | None = None
    think_us: Ints | None = None
    whole_prompt: bool = True
    whole: dict[str, Any] | None = None
    blocks: Blocks | None = None


def conversations(calls: Calls, tally: Tally) -> Any:
    """A table of the conversations, in order of start (of first appearance without a clock), turns likewise.

    A whole prompt is taken to hold the one before it and its answer: what is left is the new message; where nothing but less
    is left the prompt counts as fresh content (`restarts`). Each is counted in the tally.
    """
    order, first = _turn_order(calls, tally)
    follows = ~first
    columns: dict[str, Any] = {}
    counts = np.diff(np.append(np.flatnonzero(first), len(order)))
    user, restarts = _new_messages(calls, order, follows, tally)
    columns["user_tokens"] = list_of(counts, pa.array(user.astype(np.int32)))
    columns["reply_tokens"] = list_of(counts, pa.array(calls.output_tokens[order].astype(np.int32)))
    opening = order[first]
    if calls.start_us is not None:
        columns["start_us"] = pa.array(calls.start_us[opening])
    codes = calls.session[opening]
    if calls.session_ids:
        columns["conversation_id"] = pa.array(calls.session_ids, pa.string()).take(pa.array(codes, mask=codes < 0))
    for name, values in (calls.whole or {}).items():
        columns[name] = values.take(pa.array(opening)).cast(SCHEMA.field(name).type)
    if calls.blocks is not None:
        columns |= _segments(calls.blocks, order, counts)
    if restarts.any():
        columns["restarts"] = list_of(counts, pa.array(restarts))
    for name, us in _times(calls, order, follows, tally).items():
        beyond = us > LONGEST_GAP_US
        if beyond.any():
            tally.changed["more than 285 years between turns: the time is unknown"] += int(beyond.sum())
            us[beyond] = UNKNOWN
        columns[name] = list_of(counts, pa.array(us, mask=us == UNKNOWN))
    return pa.table({name: columns[name] for name in SCHEMA.names if name in columns})


def _turn_order(calls: Calls, tally: Tally) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Places of the calls, conversation by conversation and turn by turn; True where a conversation begins."""
    n = len(calls.session)
    alone = calls.session < 0
    code = np.where(alone, len(calls.session_ids) + np.arange(n), calls.session)
    start = calls.start_us if calls.start_us is not None else np.arange(n)
    unordered = int((start[1:] < start[:-1]).sum())
    if unordered:
        tally.changed["out of time order: sorted"] += unordered
    order = np.lexsort((start, code))
    first = np.append(True, code[order][1:] != code[order][:-1])[:n]
    opening = order[first]
    rank = np.empty(len(opening), dtype=np.int64)
    rank[np.lexsort((opening, start[opening]))] = np.arange(len(opening))
    again = np.argsort(rank[np.cumsum(first) - 1], kind="stable")
    return order[again], first[again]


def _new_messages(calls: Calls, order: Ints, follows: npt.NDArray[np.bool_], tally: Tally) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """(tokens of each turn's new message, which turns start afresh)."""
    prompt = calls.input_tokens[order].astype(np.int64)
    if calls.blocks is not None:
        return prompt, follows
    if not calls.whole_prompt:
        return prompt, np.zeros(len(prompt), dtype=bool)
    new = prompt - _before(prompt + calls.output_tokens[order])
    restarts = follows & (new < 0)
    if restarts.any():
        tally.changed["prompt shorter than the turns before it: taken as fresh content"] += int(restarts.sum())
    return np.where(follows & ~restarts, new, prompt), restarts


def _segments(blocks: Blocks, order: Ints, counts: Ints) -> dict[str, Any]:
    """The segment columns of calls in `order`, `counts` of them a conversation: every block is a segment."""
    bounds = pa.array(blocks.bounds.astype(np.int32))
    per_call = np.diff(blocks.bounds)[order]
    ends = np.concatenate([[0], np.cumsum(per_call)])
    per_conversation = np.diff(ends[np.concatenate([[0], np.cumsum(counts)])])
    made = {"segments": list_of(counts, pa.array(per_call.astype(np.int32)))}
    for name, values in (("segment_ids", blocks.ids), ("segment_tokens", blocks.block_lengths().astype(np.int32))):
        taken = pa.ListArray.from_arrays(bounds, pa.array(values)).take(pa.array(order))
        made[name] = list_of(per_conversation, taken.flatten())
    return made


def _times(calls: Calls, order: Ints, follows: npt.NDArray[np.bool_], tally: Tally) -> dict[str, Ints]:
    """The time columns that say anything: `gap_us` and `think_us`, UNKNOWN for first turns."""
    made: dict[str, Ints] = {}
    if not follows.any():
        return made
    if calls.start_us is not None:
        start = calls.start_us[order]
        made["gap_us"] = np.where(follows, start - _before(start), UNKNOWN)
        if calls.end_us is not None:
            ended = _before(calls.end_us[order])
            known = follows & (ended != UNKNOWN)
            think = np.where(known, start - ended, UNKNOWN)
            overlaps = known & (think < 0)
            if overlaps.any():
                tally.changed["sent before the answer before it had ended: think time 0"] += int(overlaps.sum())
            made["think_us"] = np.where(overlaps, 0, think)
    if calls.think_us is not None:
        made["think_us"] = np.where(follows, calls.think_us[order], UNKNOWN)
    return made


def _before(values: Ints) -> Ints:
    """Each entry's predecessor (the first has itself)."""
    return np.concatenate([values[:1], values[:-1]])


class Numbering:
    """Numbers for names in order of appearance."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.numbers: dict[str, int] = {}

    def of(self, column: Any, missing: int) -> Ints:
        """The numbers of a text column; `missing` for nulls and empty texts."""
        encoded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        encoded = pa.concat_arrays(encoded.chunks) if isinstance(encoded, pa.ChunkedArray) else encoded
        encoded = encoded.dictionary_encode()
        known = [self.number(name, missing) for name in encoded.dictionary.to_pylist()]
        place = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        return np.asarray(np.array([*known, missing], dtype=np.int64)[place])

    def number(self, name: str | None, missing: int) -> int:
        """The number of one name; `missing` for none."""
        return self.numbers.setdefault(name, self.first + len(self.numbers)) if name else missing

    def decoded(self, numbers: npt.NDArray[Any]) -> Any:
        """A text column from numbers; null for those below `first`."""
        codes = pa.array((numbers - self.first).astype(np.int32), mask=numbers < self.first)
        return pa.DictionaryArray.from_arrays(codes, pa.array(self.names, pa.string()))

    @property
    def names(self) -> list[str]:
        return list(self.numbers)
