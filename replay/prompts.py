"""The prompts that clients write: a session's history with the replies that it really got. It does not know when."""

from collections.abc import Sequence

import numpy as np

from workloads.request import Prompt, extend_key
from workloads.request_table import Ints, RequestRows, RequestTable

NOTHING: frozenset[int] = frozenset()
_EMPTY = Prompt((), ())
_FEW = 16  # so few prompts are faster one by one
_KEY_BITS = np.int64((1 << 63) - 1)
_HALF, _29, _32, _35 = (np.uint64(n) for n in ((1 << 32) - 1, 29, 32, 35))
_FACTOR, _ADDED = np.uint64(0x2545F4914F6CDD1D), np.uint64(0x9E3779B97F4A7C15)  # of `extend_key`
_FACTOR_LOW, _FACTOR_HIGH = _FACTOR & _HALF, _FACTOR >> _32


class PromptWriter:
    """Prompts of `rows` under a session rule's `history`.

    A reply that its session never received (or, with `history: trace`, any reply) is the trace's own text in later prompts, which
    no engine has generated: another content id (`~id`) of the same length. A prompt that extends the one before is made from
    it, so a session costs by its segments, not by their square.
    """

    def __init__(self, rows: RequestRows, history: str) -> None:
        self._rows = rows
        self._traces_own = history == "trace"
        self.lost: dict[int, set[int]] = {}  # session → reply ids
        # session → its latest turn that another extends, if nothing was lost: its place, prompt, reply and the reply's tokens
        self._latest: dict[int, tuple[int, Prompt, int, int]] = {}

    def write(self, i: int, session_id: int, ids: list[int], tokens: list[int]) -> tuple[Prompt, frozenset[int]]:
        """The prompt of request `i`, which adds these segments, and the replies in it that are the trace's own text."""
        rows = self._rows
        lost = self._lost_by(i, session_id) if self.lost or self._traces_own else NOTHING
        before = self._latest.pop(session_id, None) if self._latest else None
        if lost:
            ids, tokens = rows.prompt(i)
            return _extended(_EMPTY, [~c if c in lost else c for c in ids], tokens), lost
        if not rows.extends[i]:
            prompt = _extended(_EMPTY, ids, tokens)
        elif before is not None and before[0] == i - 1:
            prompt = _extended(before[1], [before[2], *ids], [before[3], *tokens])
        else:
            prompt = _extended(_EMPTY, *rows.prompt(i))
        if rows.extends[i + 1]:
            self._latest[session_id] = i, prompt, rows.reply_id[i], rows.output_tokens[i]
        return prompt, lost

    def write_alone(self, i: int, session_id: int, alone: Prompt) -> tuple[Prompt, frozenset[int]]:
        """As `write`, where what request `i` adds is known as a prompt of its own."""
        rows = self._rows
        if self.lost or self._traces_own or rows.extends[i]:
            return self.write(i, session_id, *rows.row(i)[-2:])
        if rows.extends[i + 1]:
            self._latest[session_id] = i, alone, rows.reply_id[i], rows.output_tokens[i]
        elif self._latest:
            self._latest.pop(session_id, None)
        return alone, NOTHING

    def lose(self, session_id: int, reply_id: int) -> None:
        """The session never received this reply."""
        self.lost.setdefault(session_id, set()).add(reply_id)

    def forget(self, session_id: int) -> None:
        """The session is over."""
        self.lost.pop(session_id, None)
        self._latest.pop(session_id, None)

    def forget_after(self, i: int, session_id: int) -> None:
        """Request `i` is over, and so is its session if this was its last."""
        rows = self._rows
        if session_id in self.lost and (i + 1 >= len(rows) or rows.session_id[i + 1] != session_id):
            self.forget(session_id)

    def _lost_by(self, i: int, session_id: int) -> frozenset[int]:
        if not self._traces_own:
            return frozenset(self.lost[session_id]) if session_id in self.lost else NOTHING
        rows, first = self._rows, i
        while first > 0 and rows.session_id[first - 1] == session_id:
            first -= 1
        return frozenset(rows.reply_id[turn] for turn in range(first, i))


def _extended(prompt: Prompt, ids: Sequence[int], tokens: Sequence[int]) -> Prompt:
    """The prompt followed by segments (see `Prompt`)."""
    key, end = (prompt.keys[-1], prompt.ends[-1]) if prompt.keys else (0, 0)
    keys, ends = [*prompt.keys], [*prompt.ends]
    for content_id, n in zip(ids, tokens, strict=True):
        keys.append(key := extend_key(key, content_id))
        ends.append(end := end + n)
    return Prompt(tuple(keys), tuple(ends))


def prompts_alone(table: RequestTable, requests: Ints) -> list[Prompt]:
    """What each of these requests adds to the prompt that it extends (to nothing, where it extends none), as a prompt alone."""
    starts = table.new_bounds[requests]
    sizes = table.new_bounds[requests + 1] - starts
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    places = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], sizes)
    keys = tuple(_prefix_keys(table.new_ids[places], bounds).tolist())
    total = np.concatenate([[0], np.cumsum(table.new_tokens[places])])
    ends = tuple((total[1:] - np.repeat(total[bounds[:-1]], sizes)).tolist())
    cuts = map(slice, bounds[:-1].tolist(), bounds[1:].tolist())
    return [Prompt(keys[cut], ends[cut]) for cut in cuts]


def _prefix_keys(ids: Ints, bounds: Ints) -> Ints:
    """The key of every prefix of the prompts that lie between `bounds`: a segment at a time over all that are so long."""
    firsts, sizes = bounds[:-1], np.diff(bounds)
    keys, latest = np.empty_like(ids), np.zeros(len(sizes), np.int64)
    depth, longer = 0, np.flatnonzero(sizes)
    while len(longer) > _FEW:
        places = firsts[longer] + depth
        keys[places] = latest[longer] = _extended_keys(latest[longer], ids[places])
        depth += 1
        longer = longer[sizes[longer] > depth]
    for prompt in longer.tolist():
        key = int(latest[prompt])
        for place in range(firsts[prompt] + depth, bounds[prompt + 1]):
            keys[place] = key = extend_key(key, int(ids[place]))
    return keys


def _extended_keys(keys: Ints, ids: Ints) -> Ints:
    """`extend_key` for arrays. Of its product of 126 bits the lowest 92 count: 64 and, from halves of 32 bits, those above."""
    a = (keys ^ (ids & _KEY_BITS)).view(np.uint64)
    low, high = a & _HALF, a >> _32
    middle = ((low * _FACTOR_LOW) >> _32) + ((low * _FACTOR_HIGH) & _HALF) + ((high * _FACTOR_LOW) & _HALF)
    upper = high * _FACTOR_HIGH + ((low * _FACTOR_HIGH) >> _32) + ((high * _FACTOR_LOW) >> _32) + (middle >> _32)
    product = a * _FACTOR
    lower = product + _ADDED
    upper += lower < product  # it overflowed
    extended: Ints = (lower ^ (lower >> _29) ^ (upper << _35)).view(np.int64) & _KEY_BITS
    return extended
