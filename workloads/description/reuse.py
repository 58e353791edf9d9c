"""Which prompt tokens a cache without limit has held before. It knows neither times nor engines."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.content import USER
from workloads.lengths import prompt_tokens, running_total
from workloads.mixing import mixed
from workloads.request_table import RequestTable
from workloads.sessions import whole_trace
from workloads.trace_table import Trace

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Units:
    """The segments that requests bring: each request's new ones in order, and its reply last. One entry a segment.

    `key` names the segment together with all that stands before it in its prompt, so equal keys are equal prefixes. Keys are sums
    of 64-bit mixes of (content, place), so they need no walk; two of n prefixes agree by accident with probability n² / 2⁶⁵.
    """

    row: Ints
    is_reply: Flags
    tokens: Ints
    key: npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Reuse:
    """Tokens of each request's prompt found in a cache that has kept everything, requests in the given order.

    `history` are those of the request's own session's earlier turn that it extends; `own` further ones that an earlier request of
    its session held; `others` those that only other sessions held. `total` is the prompt.
    """

    total: Ints
    history: Ints
    own: Ints
    others: Ints
    new_segments: int
    hit_segments: int
    unique_segments: int

    @cached_property
    def hit(self) -> Ints:
        return np.asarray(self.history + self.own + self.others)

    def share(self, tokens: Ints) -> float:
        """Of all prompt tokens."""
        return float(tokens.sum() / self.total.sum()) if len(tokens) else 0.0

    def facts(self) -> dict[str, Any]:
        """Shares of tokens and of requests; segments are the trace's blocks or, where it has none, messages."""
        shares = self.hit / np.maximum(self.total, 1)
        quantiles = np.percentile(shares, (50, 90)).tolist() if len(shares) else [0.0, 0.0]
        return {
            "token_share": self.share(self.hit),
            "within_sessions": self.share(self.history + self.own),
            "across_sessions": self.share(self.others),
            "segment_share": self.hit_segments / max(self.new_segments, 1),
            "unique_segments": self.unique_segments,
            "requests_with_hit": float((self.hit > 0).mean()) if len(shares) else 0.0,
            "median_share": quantiles[0],
            "p90_share": quantiles[1],
            "requests_half_hit": float((shares >= 0.5).mean()) if len(shares) else 0.0,
        }


def prefix_reuse(trace: Trace) -> float:
    """Share of input tokens that an infinite prefix cache holds already, replies cached as made; the order does not matter."""
    found = lengths_only_reuse(trace) if knows_lengths_only(trace) else reuse(whole_trace(trace))
    return found.share(found.hit)


def knows_lengths_only(trace: Trace) -> bool:
    """True where nothing but a session's own history can be shared: no segments, no system prompts."""
    return not len(trace.segment_ids) and not len(trace.prefix_ids)


def lengths_only_reuse(trace: Trace) -> Reuse:
    """The same as `reuse` of the whole trace, without building its requests."""
    user = np.maximum(trace.user_tokens.astype(np.int64), 1)
    if trace.turn_count == len(trace):
        nothing = np.broadcast_to(np.int64(0), user.shape)
        return Reuse(user, nothing, nothing, nothing, len(user), 0, len(user))
    total = prompt_tokens(trace)
    history = total - user
    return Reuse(total, history, 0 * total, 0 * total, *_history_segments(trace), len(user))


def _history_segments(trace: Trace) -> tuple[int, int]:
    """(segments of all prompts, those in histories): every earlier turn of a context stands there as a message and a reply."""
    fresh = trace.restarts.copy()
    fresh[trace.turn_bounds[:-1]] = True
    place = running_total(np.ones(trace.turn_count, dtype=np.int64), np.flatnonzero(fresh)) - 1
    history = int(2 * place.sum())
    return history + trace.turn_count, history


def units_of(table: RequestTable) -> Units:
    """The new segments and replies of a table of requests, keyed by their whole prefix."""
    n, counts = len(table), np.diff(table.new_bounds)
    size = counts + 1
    ends = np.cumsum(size)
    row = np.repeat(np.arange(n), size)
    is_reply = np.zeros(len(row), dtype=bool)
    is_reply[ends - 1] = True
    ids, tokens = np.empty(len(row), dtype=np.int64), np.empty(len(row), dtype=np.int64)
    ids[~is_reply], tokens[~is_reply] = table.new_ids, table.new_tokens
    ids[is_reply], tokens[is_reply] = table.reply_id, table.output_tokens
    fresh = (ends - size)[~table.extends]
    lengths = np.diff(np.append(fresh, len(row)))
    place = np.arange(len(row)) - np.repeat(fresh, lengths)
    with np.errstate(over="ignore"):
        sums = np.cumsum(mixed(USER, ids, place), dtype=np.uint64)
        before = np.where(fresh > 0, sums[fresh - 1], np.uint64(0)) if len(fresh) else np.empty(0, dtype=np.uint64)
        key = sums - np.repeat(before, lengths)
    return Units(row, is_reply, tokens, key)


def reuse(table: RequestTable, order: Ints | None = None) -> Reuse:
    """Reuse of a table of requests served in `order` (places; default: as they stand), each whole before the next begins.

    A request that extends its predecessor finds all of that one's prompt and reply; what it adds is looked up by whole prefix.
    """
    units = units_of(table)
    total = table.prompt_tokens.astype(np.int64)
    new = _tokens_by_row(units, ~units.is_reply, len(table))
    rank = _rank(order, len(table))
    again, same = _seen_before(units, rank, table.session_id)
    fresh = ~units.is_reply
    hit, own = again & fresh, again & same & fresh
    hit_tokens, own_tokens = (_tokens_by_row(units, chosen, len(table)) for chosen in (hit, own))
    places = np.diff(table.new_bounds)
    in_history = _history_places(table, places)
    return Reuse(
        total=total,
        history=np.where(table.extends, total - new, 0),
        own=own_tokens,
        others=hit_tokens - own_tokens,
        new_segments=int(places.sum() + in_history.sum()),
        hit_segments=int(hit.sum() + in_history.sum()),
        unique_segments=len(np.unique(units.key[fresh])),
    )


def _tokens_by_row(units: Units, chosen: Flags, rows: int) -> Ints:
    return np.bincount(units.row[chosen], weights=units.tokens[chosen], minlength=rows).astype(np.int64)


def _rank(order: Ints | None, n: int) -> Ints:
    if order is None:
        return np.arange(n)
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    return rank


def _seen_before(units: Units, rank: Ints, session_id: Ints) -> tuple[Flags, Flags]:
    """Of every unit: did an earlier request hold this prefix, and did one of its own session."""
    when = rank[units.row]
    session = session_id[units.row]
    found = []
    for group in (units.key, mixed(units.key, session)):
        order = np.lexsort((when, group))
        again = np.zeros(len(order), dtype=bool)
        again[1:] = (group[order][1:] == group[order][:-1]) & (when[order][1:] > when[order][:-1])
        flags = np.empty(len(order), dtype=bool)
        flags[order] = again
        found.append(flags)
    return found[0], found[1]


def _history_places(table: RequestTable, places: Ints) -> Ints:
    """Segments in front of each request's new ones: those of the requests it extends, with their replies."""
    before = np.concatenate([[0], np.cumsum(places + 1)])[:-1]
    start = np.maximum.accumulate(np.where(table.extends, -1, np.arange(len(table)))) if len(table) else before
    return np.asarray(before - before[start])
