"""How large a least-recently-used prefix cache must be to hit: exact stack distances in tokens. It knows no engine's blocks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.description.reuse import Units, units_of
from workloads.lengths import running_total
from workloads.request_table import RequestTable

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
MOST_TOUCHES = 30_000_000
_SIZES = 24


@dataclass(frozen=True, slots=True)
class Runs:
    """Stretches of prompts that were last touched at one time, in the order of the requests that touch them again.

    Request number `at` touches `tokens` that request number `last` touched before it and nobody in between. With `asked` they
    stand in its prompt: min(max(C − between, 0), tokens) of them hit in a cache of C tokens, `between` being all touched since.
    """

    at: Ints
    last: Ints
    tokens: Ints
    asked: Flags


def hit_curve(table: RequestTable, order: Ints) -> dict[str, Any] | None:
    """Share of prompt tokens that an LRU cache of each size would hit, requests in `order`: `cache_tokens`, `hit_share`.

    Mattson, Gecsei, Slutz & Traiger, "Evaluation techniques for storage hierarchies" (1970), exact to the token. Least recently
    used goes first, of one request its end; a request's prompt and its answer count as touched when it begins. `half_of_reuse`
    and `most_of_reuse` are the sizes that hit half and nine tenths of all that can be hit. None where nothing is reused, or where
    more than `MOST_TOUCHES` touches of shared prefixes would have to be followed.
    """
    found = _runs(table, order)
    if found is None or not found.asked.any():
        return None
    between = _tokens_between(found, table, order)[found.asked]
    tokens = found.tokens[found.asked]

    def hits(size: int) -> int:
        return int(np.clip(size - between, 0, tokens).sum())

    def size_for(share: float) -> int:
        wanted, low, high = share * float(tokens.sum()), 0, int((between + tokens).max())
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if hits(middle) >= wanted else (middle, high)
        return high

    most = int((between + tokens).max())
    sizes = np.unique(np.rint(np.geomspace(size_for(0.01), most, _SIZES)).astype(np.int64)).tolist()
    total = int(table.prompt_tokens.sum())
    return {
        "cache_tokens": sizes,
        "hit_share": [hits(size) / total for size in sizes],
        "half_of_reuse": size_for(0.5),
        "most_of_reuse": size_for(0.9),
    }


def _runs(table: RequestTable, order: Ints) -> Runs | None:
    """Runs of every request, from what it brings and what it extends; None beyond `MOST_TOUCHES`.

    Prefixes that one chain of turns alone holds ("private") are touched with that chain's turns, all at once; the others are
    followed one by one through every turn whose prompt holds them.
    """
    units = units_of(table)
    rank = np.empty(len(table), dtype=np.int64)
    rank[order] = np.arange(len(table))
    _, inverse, count = np.unique(units.key, return_inverse=True, return_counts=True)
    is_shared = count[inverse] > 1
    shared = np.flatnonzero(is_shared)
    repeats = _last_of_chain(table)[units.row[shared]] - units.row[shared] + 1
    if int(repeats.sum()) > MOST_TOUCHES:
        return None
    private = np.bincount(units.row, weights=np.where(is_shared, 0, units.tokens), minlength=len(table)).astype(np.int64)
    return _joined(_shared_touches(units, inverse, shared, repeats, rank), _private_history(table, private, rank))


def _last_of_chain(table: RequestTable) -> Ints:
    """Of each row the last one whose prompt holds its prompt: the chain ends before the next row that does not extend."""
    begins = np.flatnonzero(~table.extends)
    stops = np.append(begins[1:], len(table))
    return np.repeat(stops - 1, stops - begins)


def _shared_touches(units: Units, key_of: Ints, shared: Ints, repeats: Ints, rank: Ints) -> Runs:
    """Every touch of a shared prefix but its first. An answer is made, not asked for, by the request that brings it."""
    unit = np.repeat(shared, repeats)
    later = np.arange(len(unit)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    at, key = rank[units.row[unit] + later], key_of[unit]
    by = np.lexsort((at, key))
    again = np.flatnonzero(key[by][1:] == key[by][:-1])
    now, before = by[again + 1], by[again]
    return Runs(at[now], at[before], units.tokens[unit[now]], ~units.is_reply[unit[now]] | (later[now] > 0))


def _private_history(table: RequestTable, private: Ints, rank: Ints) -> Runs:
    """What each extending request finds of its own chain alone, `private` being what every row brings of that."""
    rows = np.flatnonzero(table.extends)
    tokens = (running_total(private, np.flatnonzero(~table.extends)) - private)[rows] if len(rows) else rows
    kept = tokens > 0
    return Runs(rank[rows[kept]], rank[rows[kept] - 1], tokens[kept], np.ones(int(kept.sum()), dtype=bool))


def _joined(one: Runs, other: Runs) -> Runs:
    """Runs in the order of their requests; what one request touches of one earlier time is one run."""
    at, last, tokens, asked = (
        np.concatenate([getattr(one, name), getattr(other, name)]) for name in ("at", "last", "tokens", "asked")
    )
    by = np.lexsort((asked, last, at))
    at, last, tokens, asked = at[by], last[by], tokens[by], asked[by]
    differs = (np.diff(at) != 0) | (np.diff(last) != 0) | (np.diff(asked) != 0)
    heads = np.concatenate([[0], np.flatnonzero(differs) + 1]) if len(at) else np.empty(0, dtype=np.int64)
    return Runs(at[heads], last[heads], np.add.reduceat(tokens, heads) if len(at) else tokens, asked[heads])


def _tokens_between(runs: Runs, table: RequestTable, order: Ints) -> Ints:
    """Tokens of all prefixes touched after a run's last touch and before the request that touches it again, each once.

    That is the tokens of all requests in between, less what those touched a second time there.
    """
    whole = np.concatenate([[0], np.cumsum((table.prompt_tokens + table.output_tokens)[order])])
    first_of_request = np.searchsorted(runs.at, runs.at, side="left")
    return np.asarray(whole[runs.at] - whole[runs.last + 1] - sums_above(runs.last, runs.tokens, first_of_request, runs.last))


def sums_above(values: Ints, weights: Ints, upto: Ints, threshold: Ints) -> Ints:
    """For every query the sum of the weights among the first `upto` entries whose value (≥ 0) exceeds the threshold.

    A wavelet matrix (Claude, Navarro & Ordóñez 2015): one stable partition a bit, all queries at once; n log n.
    """
    answer = np.zeros(len(upto), dtype=np.int64)
    low, high = np.zeros(len(upto), dtype=np.int64), upto.astype(np.int64)
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        one = (values >> bit & 1).astype(bool)
        ones = np.concatenate([[0], np.cumsum(one)])
        weight = np.concatenate([[0], np.cumsum(np.where(one, weights, 0))])
        up = (threshold >> bit & 1).astype(bool)
        answer += np.where(up, 0, weight[high] - weight[low])
        zeros = len(values) - ones[-1]
        low, high = (np.where(up, zeros + ones[place], place - ones[place]) for place in (low, high))
        values, weights = (np.concatenate([a[~one], a[one]]) for a in (values, weights))
    return answer
