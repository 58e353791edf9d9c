"""A trace in columns: one Arrow row a conversation, and flat numpy views of its turns. It knows neither files nor formats."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workloads.columns import flat_lists, flat_strings, list_column, microseconds, plain
from workloads.conversation import Conversation, Provenance, Turn
from workloads.request import Segment

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

_I32, _I64, _TEXT = pa.int32(), pa.int64(), pa.string()
SCHEMA = pa.schema(
    {
        "user_tokens": pa.list_(_I32),
        "reply_tokens": pa.list_(_I32),
        "start_us": _I64,
        "conversation_id": _TEXT,
        "tenant": _I32,
        "language": _TEXT,
        "model": _TEXT,
        "prefix_ids": pa.list_(_I64),
        "prefix_tokens": pa.list_(_I32),
        "gap_us": pa.list_(_I64),
        "think_us": pa.list_(_I64),
        "restarts": pa.list_(pa.bool_()),
        "segments": pa.list_(_I32),
        "segment_ids": pa.list_(_I64),
        "segment_tokens": pa.list_(_I32),
        "prefix_text": _TEXT,
        "user_text": pa.list_(_TEXT),
        "reply_text": pa.list_(_TEXT),
    }
)
"""One row a conversation. `user_tokens` and `reply_tokens` have one entry a turn and no nulls; every other column may be absent
(all rows null) or hold nulls (unknown). `segments` counts a turn's new segments (0: lengths only), whose ids and tokens stand one
after another in `segment_ids`, `segment_tokens`. `start_us` is on the source's own clock."""
REQUIRED = ("user_tokens", "reply_tokens")
TEXTS = ("prefix_text", "user_text", "reply_text")


def table_of(conversations: Sequence[Conversation]) -> Any:
    """Row objects as a table of the schema, columns that say nothing left out."""
    rows = list(conversations)
    turns = [t for c in rows for t in c.turns]
    counts = [len(c.turns) for c in rows]
    columns: dict[str, Any] = {
        "user_tokens": list_column([[t.user_tokens for t in c.turns] for c in rows], _I32),
        "reply_tokens": list_column([[t.reply_tokens for t in c.turns] for c in rows], _I32),
        "conversation_id": pa.array([c.conversation_id for c in rows], _TEXT),
    }

    def whole(name: str, values: Sequence[Any]) -> None:
        if any(v is not None for v in values):
            columns[name] = pa.array(values, SCHEMA.field(name).type)

    def a_turn(name: str, values: Sequence[Any]) -> None:
        if any(v is not None and v is not False for v in values):
            columns[name] = list_of(counts, pa.array(values, SCHEMA.field(name).type.value_type))

    whole("start_us", [microseconds(c.start_s) for c in rows])
    whole("tenant", [c.tenant or None for c in rows])
    for name in ("language", "model", "prefix_text"):
        whole(name, [getattr(c, name) for c in rows])
    if any(c.prefix for c in rows):
        columns["prefix_ids"] = list_column([[s.content_id for s in c.prefix] for c in rows], _I64)
        columns["prefix_tokens"] = list_column([[s.tokens for s in c.prefix] for c in rows], _I32)
    a_turn("gap_us", [microseconds(t.gap_s) for t in turns])
    a_turn("think_us", [microseconds(t.think_s) for t in turns])
    a_turn("restarts", [t.restarts for t in turns])
    if any(t.segments for t in turns):
        made = [list(chain.from_iterable(t.segments or () for t in c.turns)) for c in rows]
        columns["segments"] = list_of(counts, pa.array([len(t.segments or ()) for t in turns], _I32))
        columns["segment_ids"] = list_column([[s.content_id for s in row] for row in made], _I64)
        columns["segment_tokens"] = list_column([[s.tokens for s in row] for row in made], _I32)
    a_turn("user_text", [t.user_text for t in turns])
    a_turn("reply_text", [t.reply_text for t in turns])
    return pa.table({name: columns[name] for name in SCHEMA.names if name in columns})


def list_of(counts: Sequence[int] | Ints, values: Any) -> Any:
    """A list column from one length a row and the flat values."""
    bounds = np.concatenate([[0], np.cumsum(np.asarray(counts, dtype=np.int64))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(bounds), values)


def single_turns(columns: Mapping[str, Any]) -> Any:
    """A table of conversations of one turn, from flat columns (`user_tokens`, `reply_tokens` and conversation-level ones)."""
    n = len(columns["user_tokens"])
    made = {
        name: list_of(np.ones(n, dtype=np.int64), pa.array(values, SCHEMA.field(name).type.value_type))
        if pa.types.is_list(SCHEMA.field(name).type)
        else pa.array(values, SCHEMA.field(name).type)
        for name, values in columns.items()
    }
    return pa.table({name: made[name] for name in SCHEMA.names if name in made})


def joined(tables: Iterable[Any]) -> Any:
    """Tables with different optional columns as one; a column that some lack is null there."""
    parts = list(tables)
    if not parts:
        return pa.table({name: pa.array([], SCHEMA.field(name).type) for name in REQUIRED})
    return pa.concat_tables(parts, promote_options="default")


@dataclass(frozen=True, eq=False)
class Trace:
    """Conversations in the order of the source, or of their start times where all have one (see `Trace.of_table`).

    Arrays named for turns are flat: conversation i has turns `turn_bounds[i]` … `turn_bounds[i+1] − 1`.
    """

    source: str
    provenance: Provenance
    table: Any

    @staticmethod
    def of_table(source: str, table: Any, provenance: Provenance) -> "Trace":
        """The trace that a table holds, sorted by start where it has a clock; what had to be sorted is counted as changed."""
        made = dict(provenance)
        starts = _clock(table)
        made["has_timestamps"] = starts is not None
        if starts is not None:
            made["first_start_us"] = int(starts.min())
            unordered = int((starts[1:] < starts[:-1]).sum())
            if unordered:
                table = table.take(pa.array(np.argsort(starts, kind="stable")))
                made["rows_changed"] = provenance["rows_changed"] | {"out of time order: sorted": unordered}
        return Trace(source, made, table)  # type: ignore[arg-type]

    @staticmethod
    def of(source: str, conversations: Iterable[Conversation], provenance: Provenance) -> "Trace":
        rows = list(conversations)
        return Trace.of_table(source, table_of(rows) if rows else joined([]), provenance)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def turn_count(self) -> int:
        return len(self.user_tokens)

    @cached_property
    def has_timestamps(self) -> bool:
        return _clock(self.table) is not None

    # A value a conversation ------------------------------------------------------------------------------------------

    @cached_property
    def start_s(self) -> Floats:
        """Start of every conversation, seconds after the first one; ValueError without a clock."""
        starts = _clock(self.table)
        if starts is None:
            raise ValueError(f"trace {self.source!r} has no timestamps")
        return np.asarray((starts - starts[0]) / 1e6)

    @cached_property
    def tenant(self) -> Int32s:
        if "tenant" not in self.table.column_names:
            return np.zeros(len(self), dtype=np.int32)
        return plain(self.table.column("tenant"), 0).astype(np.int32)

    @cached_property
    def turn_bounds(self) -> Ints:
        return flat_lists(self.table.column("user_tokens"))[1]

    @cached_property
    def turns(self) -> Ints:
        """Turns of each conversation."""
        return np.diff(self.turn_bounds)

    @cached_property
    def prefix_bounds(self) -> Ints:
        return self._lists("prefix_ids")[1]

    @cached_property
    def prefix_ids(self) -> Ints:
        return self._lists("prefix_ids")[0].astype(np.int64)

    @cached_property
    def prefix_tokens(self) -> Int32s:
        return self._lists("prefix_tokens")[0].astype(np.int32)

    # A value a turn --------------------------------------------------------------------------------------------------

    @cached_property
    def user_tokens(self) -> Int32s:
        return flat_lists(self.table.column("user_tokens"))[0].astype(np.int32, copy=False)

    @cached_property
    def reply_tokens(self) -> Int32s:
        return flat_lists(self.table.column("reply_tokens"))[0].astype(np.int32, copy=False)

    @cached_property
    def think_s(self) -> Floats:
        """Seconds from the previous answer's end; NaN = unknown, or a first turn."""
        return self._a_turn("think_us", -1) / 1e6

    @cached_property
    def gap_s(self) -> Floats:
        """Seconds from the previous turn's start; NaN = unknown, or a first turn."""
        return self._a_turn("gap_us", -1) / 1e6

    @cached_property
    def restarts(self) -> npt.NDArray[np.bool_]:
        return self._a_turn("restarts", 0) > 0

    @cached_property
    def segment_bounds(self) -> Ints:
        """Segments of turn j: `segment_ids[segment_bounds[j]:segment_bounds[j+1]]`; none = only its length is known."""
        counts = self._a_turn("segments", 0) if "segments" in self.table.column_names else np.zeros(self.turn_count)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def segment_ids(self) -> Ints:
        return self._lists("segment_ids")[0].astype(np.int64)

    @cached_property
    def segment_tokens(self) -> Int32s:
        return self._lists("segment_tokens")[0].astype(np.int32)

    def _lists(self, name: str) -> tuple[npt.NDArray[Any], Ints]:
        if name not in self.table.column_names:
            return np.empty(0), np.zeros(len(self) + 1, dtype=np.int64)
        return flat_lists(self.table.column(name))

    def _a_turn(self, name: str, unknown: int) -> npt.NDArray[Any]:
        """One number a turn; NaN for an unknown time."""
        missing = np.nan if unknown < 0 else 0.0
        if name not in self.table.column_names:
            return np.full(self.turn_count, missing)
        values, bounds = flat_lists(self.table.column(name), missing)
        if len(values) == self.turn_count:
            return values.astype(np.float64)
        whole = np.full(self.turn_count, missing)  # conversations without this column's list
        known = np.repeat(np.diff(bounds) > 0, self.turns)
        whole[known] = values
        return whole

    # Rows ------------------------------------------------------------------------------------------------------------

    def taken(self, index: Ints, provenance: Provenance | None = None) -> "Trace":
        """The conversations at `index`, in that order."""
        return replace(self, table=self.table.take(pa.array(index)), provenance=provenance or self.provenance)

    @cached_property
    def conversations(self) -> tuple[Conversation, ...]:
        """Row objects: for small traces, tests and single looks; starts count from the first."""
        return tuple(self.rows())

    def rows(self) -> Iterator[Conversation]:
        ids = flat_strings(self.table, "conversation_id")
        language, model, prefix_text = (flat_strings(self.table, n) for n in ("language", "model", "prefix_text"))
        user_text, reply_text = (self._texts(n) for n in ("user_text", "reply_text"))
        starts = self.start_s.tolist() if self.has_timestamps else [None] * len(self)
        prefixes = _segments(self.prefix_ids, self.prefix_tokens, self.prefix_bounds)
        contents = _segments(self.segment_ids, self.segment_tokens, self.segment_bounds)
        turns = [
            Turn(user, reply, content or None, _known(think), _known(gap), restart, said, answered)
            for user, reply, content, think, gap, restart, said, answered in zip(
                *(self.user_tokens.tolist(), self.reply_tokens.tolist(), contents, self.think_s.tolist(), self.gap_s.tolist()),
                *(self.restarts.tolist(), user_text, reply_text),
                strict=True,
            )
        ]
        bounds, tenants = self.turn_bounds.tolist(), self.tenant.tolist()
        for i in range(len(self)):
            yield Conversation(
                conversation_id=ids[i] or f"row-{i + 1}",
                turns=tuple(turns[bounds[i] : bounds[i + 1]]),
                tenant=tenants[i],
                prefix=prefixes[i],
                start_s=starts[i],
                language=language[i],
                model=model[i],
                prefix_text=prefix_text[i],
            )

    def _texts(self, name: str) -> list[str | None]:
        if name not in self.table.column_names:
            return [None] * self.turn_count
        rows = self.table.column(name).to_pylist()
        return [t for row, n in zip(rows, self.turns.tolist(), strict=True) for t in (row or [None] * n)]


def _clock(table: Any) -> Ints | None:
    """The start times, or None when there is no row or one of them is unknown."""
    if "start_us" not in table.column_names or not table.num_rows or table.column("start_us").null_count:
        return None
    return plain(table.column("start_us"), 0).astype(np.int64, copy=False)


def _segments(ids: Ints, tokens: Int32s, bounds: Ints) -> list[tuple[Segment, ...]]:
    made = [Segment(i, t) for i, t in zip(ids.tolist(), tokens.tolist(), strict=True)]
    edges = bounds.tolist()
    return [tuple(made[a:b]) for a, b in pairwise(edges)]


def _known(value: float) -> float | None:
    return None if value != value else value
