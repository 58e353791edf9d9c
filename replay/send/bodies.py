"""The body of each request as JSON bytes, made before it is due where that can be known. It sends nothing.

First turns are made in the order of their times, later turns once the answer before them has come; nothing is made earlier
than a window of time and bytes allows.
"""

import json
import time
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

import numpy as np

from replay.client import Root
from replay.prompts import NOTHING
from replay.send.spec import IGNORE_EOS, MIN_TOKENS
from replay.send.writing import Pieces
from workloads.request import Segment
from workloads.request_table import RequestTable

_INF = float("inf")
_NEVER = _INF, -1
_FORGET = 0.98


class BodyForm:
    """The fields around a prompt. `asked_tokens` is the output that a request asks for."""

    def __init__(self, model: str, length: str, wants_ids: bool, max_tokens: int, more: dict[str, Any]) -> None:
        fields: dict[str, Any] = {"model": model} if model else {}
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
        fields |= {"ignore_eos": True} if length == IGNORE_EOS else {}
        self._fixed = json.dumps(fields | more, separators=(",", ":")).encode()[:-1]
        self._wants_ids, self._max_tokens, self._names_least = wants_ids, max_tokens, length == MIN_TOKENS

    def asked_tokens(self, output_tokens: int) -> int:
        return min(output_tokens, self._max_tokens)

    def whole(self, prompt: bytes, output_tokens: int, goes_on: bool) -> bytes:
        """`goes_on`: another turn will repeat the answer."""
        asked = self.asked_tokens(output_tokens)
        more = b',"return_token_ids":true' if goes_on and self._wants_ids else b""
        if self._names_least:
            more += b',"min_tokens":%d' % asked
        return b'%b%b,"max_tokens":%d,"prompt":%b}' % (self._fixed, more, asked, prompt)


class Bodies:
    """Bodies by request. `late` counts those of first attempts that had to be made when they were due.

    A body that was made ahead is good for one set of lost replies (see `PromptWriter`); the reply that a prompt repeats is the
    one that had come when it was made.
    """

    def __init__(self, table: RequestTable, form: BodyForm, pieces: Pieces, ahead_s: float, ahead_bytes: int) -> None:
        self._rows, self._form, self._pieces = table.rows(), form, pieces
        self._ahead_s, self._room = ahead_s, ahead_bytes
        self._planned = _first_turns(table)
        self._next_planned = next(self._planned, _NEVER)
        self._later: list[tuple[float, int]] = []  # (due_s, request) of later turns
        self._lost: dict[int, frozenset[int]] = {}  # of the later turns that are still to be made
        self._made: dict[int, tuple[frozenset[int], bytes]] = {}
        self._sessions, self._arrival_us = table.session_id.data, table.arrival_us.data
        self.late = 0
        self._cost_s = 0.0  # of one body, lately

    def goes_on(self, request_id: int) -> bool:
        """Whether the session has another turn in the plan."""
        following = request_id + 1
        return following < len(self._sessions) and self._sessions[following] == self._sessions[request_id]

    def replies_before(self, request_id: int) -> list[int]:
        """The replies of its session's earlier turns."""
        first = request_id
        while first > 0 and self._sessions[first - 1] == self._sessions[request_id]:
            first -= 1
        return [self._rows.reply_id[i] for i in range(first, request_id)]

    def take(self, root: Root) -> bytes:
        """The body of a request that is due."""
        request_id = root.request_id
        self._lost.pop(request_id, None)
        lost, body = self._made.pop(request_id, (NOTHING, b""))
        self._room += len(body)
        if body and lost == root.lost:
            return body
        self.late += root.attempts == 1
        return self._make(request_id, root.segments, root.output_tokens)

    def expect(self, request_id: int, now_s: float, lost: frozenset[int]) -> None:
        """A later turn can be made now: the answer before it has come."""
        due_s = self._arrival_us[request_id] / 1e6
        if due_s < 0:
            due_s = now_s + max(0, self._rows.think_us[request_id]) / 1e6
        if due_s > now_s:
            self._lost[request_id] = lost
            heappush(self._later, (due_s, request_id))

    def work_ahead(self, now_s: float, slack_s: float = _INF) -> bool:
        """Make one body; False when there is none to make within the window, or `slack_s` is hardly enough for it."""
        due_s, request_id, of_later = self._next_to_make(now_s)
        if due_s > now_s + self._ahead_s or self._room <= 0:
            return False
        if slack_s < 2 * self._cost_s:
            self._cost_s *= _FORGET  # what seemed to cost so much may have been a pause of the machine
            return False
        if of_later:
            heappop(self._later)
        else:
            self._next_planned = next(self._planned, _NEVER)
        began_s = time.perf_counter()
        lost = self._lost.pop(request_id, NOTHING)
        ids, tokens = self._rows.prompt(request_id)
        segments = tuple(Segment(~i if i in lost else i, n) for i, n in zip(ids, tokens, strict=True))
        body = self._make(request_id, segments, self._rows.output_tokens[request_id])
        self._made[request_id] = lost, body
        self._room -= len(body)
        self._cost_s += 0.2 * (time.perf_counter() - began_s - self._cost_s)
        return True

    def _next_to_make(self, now_s: float) -> tuple[float, int, bool]:
        """(due_s, request, whether it is a later turn); what is past has been sent."""
        later = self._later
        while later and later[0][1] not in self._lost:
            heappop(later)
        while self._next_planned[0] < now_s:
            self._next_planned = next(self._planned, _NEVER)
        of_later = bool(later) and later[0][0] < self._next_planned[0]
        return *(later[0] if of_later else self._next_planned), of_later

    def _make(self, request_id: int, segments: tuple[Segment, ...], output_tokens: int) -> bytes:
        return self._form.whole(self._pieces.whole(segments), output_tokens, self.goes_on(request_id))


def _first_turns(table: RequestTable) -> Iterator[tuple[float, int]]:
    """(due_s, request) in order of time."""
    first = np.flatnonzero((table.turn == 0) & (table.arrival_us >= 0))
    first = first[np.argsort(table.arrival_us[first], kind="stable")]
    for start in range(0, len(first), 4096):
        block = first[start : start + 4096]
        yield from zip((table.arrival_us[block] / 1e6).tolist(), block.tolist(), strict=True)
