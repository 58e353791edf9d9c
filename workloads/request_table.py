"""Requests in columns: what a workload file holds, and the way to and from row objects. It does not know how they were made."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import chain

import numpy as np
import numpy.typing as npt

from workloads.columns import microseconds, seconds
from workloads.request import Request, Segment

Ints = npt.NDArray[np.int64]
UNKNOWN_US = -1
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class RequestTable:
    """One entry a request, in the order of their ids (0 …); requests of a session are neighbours, in turn order.

    A prompt that `extends` the row before is that row's prompt, its reply, and the new segments
    `new_ids[new_bounds[i]:new_bounds[i+1]]`; otherwise the new segments are the whole prompt. Times are microseconds, −1 = none.
    """

    session_id: Ints
    turn: Ints
    arrival_us: Ints
    think_us: Ints
    prompt_tokens: Ints
    reply_id: Ints
    output_tokens: Ints
    tenant: Ints
    deadline_us: Ints
    extends: npt.NDArray[np.bool_]
    new_bounds: Ints
    new_ids: Ints
    new_tokens: Ints

    def __len__(self) -> int:
        return len(self.session_id)

    @staticmethod
    def of(requests: Sequence[Request]) -> "RequestTable":
        """Row objects as columns."""
        extends = [_extends(before, r) for before, r in zip([None, *requests[:-1]], requests, strict=True)] if requests else []
        new = [
            r.segments[len(requests[i - 1].segments) + 1 :] if extends[i] else r.segments for i, r in enumerate(requests)
        ]  # fmt: skip
        flat = list(chain.from_iterable(new))

        def ints(values: Iterable[int | None]) -> Ints:
            return np.array([UNKNOWN_US if v is None else v for v in values], dtype=np.int64)

        return RequestTable(
            session_id=ints(r.session_id for r in requests),
            turn=ints(r.turn for r in requests),
            arrival_us=ints(microseconds(r.arrival_s) for r in requests),
            think_us=ints(microseconds(r.think_s) for r in requests),
            prompt_tokens=ints(r.prompt_tokens for r in requests),
            reply_id=ints(r.reply_id for r in requests),
            output_tokens=ints(r.output_tokens for r in requests),
            tenant=ints(r.tenant for r in requests),
            deadline_us=ints(microseconds(r.deadline_s) for r in requests),
            extends=np.array(extends, dtype=np.bool_),
            new_bounds=np.concatenate([[0], np.cumsum([len(n) for n in new])]).astype(np.int64),
            new_ids=ints(s.content_id for s in flat),
            new_tokens=ints(s.tokens for s in flat),
        )

    @staticmethod
    def joined(tables: Sequence["RequestTable"]) -> "RequestTable":
        """Tables one after another; their session ids stay as they are."""
        columns = {
            f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(RequestTable) if f.name != "new_bounds"
        }
        lengths = [np.diff(t.new_bounds) for t in tables]
        return RequestTable(**columns, new_bounds=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64))

    def equals(self, other: "RequestTable") -> bool:
        return all(np.array_equal(getattr(self, f.name), getattr(other, f.name)) for f in fields(RequestTable))

    def rows(self) -> "RequestRows":
        """One request at a time, without row objects."""
        return RequestRows(self)

    def requests(self) -> tuple[Request, ...]:
        """Row objects; equal new segments are one object."""
        known: dict[tuple[int, int], Segment] = {}
        pairs = zip(self.new_ids.tolist(), self.new_tokens.tolist(), strict=True)
        flat = [known.get(pair) or known.setdefault(pair, Segment(*pair)) for pair in pairs]
        bounds = self.new_bounds.tolist()
        made: list[Request] = []
        prompt: tuple[Segment, ...] = ()
        reply = Segment(0, 0)
        columns = (self.session_id, self.turn, self.arrival_us, self.think_us, self.reply_id, self.output_tokens, self.tenant)
        rows = zip(*(c.tolist() for c in (*columns, self.deadline_us, self.extends)), strict=True)
        for i, (session, turn, arrival, think, reply_id, output, tenant, deadline, extends) in enumerate(rows):
            new = flat[bounds[i] : bounds[i + 1]]
            prompt = (*prompt, reply, *new) if extends else tuple(new)
            made.append(
                Request(
                    i,
                    session,
                    turn,
                    None if arrival < 0 else seconds(arrival),
                    None if think < 0 else seconds(think),
                    prompt,
                    reply_id,
                    output,
                    tenant,
                    None if deadline < 0 else seconds(deadline),
                )
            )
            reply = Segment(reply_id, output)
        return tuple(made)


# (request_id, session_id, tenant, reply_id, output_tokens, deadline_us, think_us, turns_waiting, content ids, tokens)
Row = tuple[int, int, int, int, int, int, int, int, list[int], list[int]]


class RequestRows:
    """A table read row by row as plain numbers (µs, −1 = none); the lists are what a prompt adds to the one that it extends.

    `turns_waiting`: how many later turns of its session come only after a request has ended (those without a time of their
    own). `extends` has one entry more than there are requests: nothing extends the last one.
    """

    def __init__(self, table: RequestTable) -> None:
        self._table = table
        waiting = _turns_waiting(table)
        self._columns = (
            *(table.session_id, table.tenant, table.reply_id, table.output_tokens),
            *(table.deadline_us, table.think_us, waiting),
        )
        self._views = [column.data for column in self._columns]
        self.session_id: Sequence[int] = table.session_id.data
        self.reply_id: Sequence[int] = table.reply_id.data
        self.think_us: Sequence[int] = table.think_us.data
        self.turns_waiting: Sequence[int] = waiting.data
        self.extends: Sequence[int] = np.append(table.extends, False).data
        self.output_tokens: Sequence[int] = table.output_tokens.data
        self._bounds: Sequence[int] = table.new_bounds.data
        self._ids, self._tokens = table.new_ids.data, table.new_tokens.data

    def __len__(self) -> int:
        return len(self.session_id)

    def row(self, i: int) -> Row:
        """The row of request `i`."""
        session, tenant, reply, output, deadline, think, waiting = [view[i] for view in self._views]
        return i, session, tenant, reply, output, deadline, think, waiting, *self._new(i)

    def rows(self, ids: Ints) -> Iterator[Row]:
        """The rows of these requests, read a block at a time: several times faster than one by one."""
        for first in range(0, len(ids), _BLOCK):
            block = ids[first : first + _BLOCK]
            starts = self._table.new_bounds[block]
            sizes = self._table.new_bounds[block + 1] - starts
            stops = np.cumsum(sizes)
            places = np.arange(stops[-1]) + np.repeat(starts - stops + sizes, sizes)
            flat_ids, flat_tokens = self._table.new_ids[places].tolist(), self._table.new_tokens[places].tolist()
            cuts = [slice(stop - size, stop) for stop, size in zip(stops.tolist(), sizes.tolist(), strict=True)]
            columns = (column[block].tolist() for column in self._columns)
            contents = ([flat[cut] for cut in cuts] for flat in (flat_ids, flat_tokens))
            yield from zip(block.tolist(), *columns, *contents, strict=True)

    def prompt(self, i: int) -> tuple[list[int], list[int]]:
        """(content ids, tokens) of the whole prompt of request `i`."""
        first = i
        while self.extends[first]:
            first -= 1
        ids, tokens = self._new(first)
        for turn in range(first + 1, i + 1):
            new_ids, new_tokens = self._new(turn)
            ids += (self.reply_id[turn - 1], *new_ids)
            tokens += (self.output_tokens[turn - 1], *new_tokens)
        return ids, tokens

    def request(self, i: int) -> Request:
        """The row object of request `i`."""
        _, session, tenant, reply, output, deadline, think, *_ = self.row(i)
        arrival, turn = int(self._table.arrival_us[i]), int(self._table.turn[i])
        arrival_s, think_s, deadline_s = (None if us < 0 else seconds(us) for us in (arrival, think, deadline))
        segments = tuple(map(Segment, *self.prompt(i)))
        return Request(i, session, turn, arrival_s, think_s, segments, reply, output, tenant, deadline_s)

    def _new(self, i: int) -> tuple[list[int], list[int]]:
        first, stop = self._bounds[i], self._bounds[i + 1]
        return self._ids[first:stop].tolist(), self._tokens[first:stop].tolist()


def _turns_waiting(table: RequestTable) -> Ints:
    waits = np.zeros(len(table), dtype=np.bool_)
    waits[:-1] = (table.session_id[1:] == table.session_id[:-1]) & (table.arrival_us[1:] < 0)
    ends = np.where(waits, len(table), np.arange(len(table)))  # the place where a row of waiting turns ends
    return np.minimum.accumulate(ends[::-1])[::-1] - np.arange(len(table))


def _extends(before: Request | None, request: Request) -> bool:
    """True where a prompt is the prompt before it, that one's reply and something new."""
    if before is None or before.session_id != request.session_id:
        return False
    history = (*before.segments, Segment(before.reply_id, before.output_tokens))
    return request.segments[: len(history)] == history
