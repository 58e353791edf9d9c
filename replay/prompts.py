"""The prompts that clients write: a session's history with the replies that it really got. It does not know when."""

from collections.abc import Sequence
from itertools import accumulate

from workloads.request import Prompt, extend_key
from workloads.request_table import RequestRows

_NOTHING: frozenset[int] = frozenset()
_EMPTY = Prompt((), ())


class PromptWriter:
    """Prompts of `rows` under a session rule's `history`.

    A reply that its session never received (or, with `history: trace`, any reply) is the trace's own text in later prompts, which
    no engine has generated: another content id (`~id`) of the same length. A prompt that extends the one before is made from
    it, so a session costs by its segments, not by their square.
    """

    def __init__(self, rows: RequestRows, history: str) -> None:
        self._rows = rows
        self._traces_own = history == "trace"
        self._lost: dict[int, set[int]] = {}  # session → reply ids
        # session → its latest turn that another extends, if nothing was lost: its place, prompt, reply and the reply's tokens
        self._latest: dict[int, tuple[int, Prompt, int, int]] = {}

    def write(self, i: int, session_id: int, ids: list[int], tokens: list[int]) -> tuple[Prompt, frozenset[int]]:
        """The prompt of request `i`, which adds these segments, and the replies in it that are the trace's own text."""
        rows = self._rows
        lost = self._lost_by(i, session_id) if self._lost or self._traces_own else _NOTHING
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

    def lose(self, session_id: int, reply_id: int) -> None:
        """The session never received this reply."""
        self._lost.setdefault(session_id, set()).add(reply_id)

    def forget(self, session_id: int) -> None:
        """The session is over."""
        self._lost.pop(session_id, None)
        self._latest.pop(session_id, None)

    def forget_after(self, i: int, session_id: int) -> None:
        """Request `i` is over, and so is its session if this was its last."""
        rows = self._rows
        if session_id in self._lost and (i + 1 >= len(rows) or rows.session_id[i + 1] != session_id):
            self.forget(session_id)

    def _lost_by(self, i: int, session_id: int) -> frozenset[int]:
        if not self._traces_own:
            return frozenset(self._lost[session_id]) if session_id in self._lost else _NOTHING
        rows, first = self._rows, i
        while first > 0 and rows.session_id[first - 1] == session_id:
            first -= 1
        return frozenset(rows.reply_id[turn] for turn in range(first, i))


def _extended(prompt: Prompt, ids: Sequence[int], tokens: Sequence[int]) -> Prompt:
    """The prompt followed by segments (see `Prompt`)."""
    keys = list(prompt.keys)
    key = keys[-1] if keys else 0
    for content_id in ids:
        key = extend_key(key, content_id)
        keys.append(key)
    return Prompt(tuple(keys), prompt.ends + tuple(accumulate(tokens, initial=prompt.tokens))[1:])
