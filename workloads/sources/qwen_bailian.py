"""Qwen-Bailian traces: one JSON line a chat turn with the ids of its 16-token prompt blocks. It knows no users and no texts."""

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from workloads.sources.blocks import Blocks, runs, sorted_prompts
from workloads.sources.download import RemoteFile, fetch
from workloads.sources.json_lines import Record, json_records
from workloads.sources.mooncake import block_ids
from workloads.sources.source import ReadOptions, Source, Tally, first_text
from workloads.trace_table import list_of

BLOCK_TOKENS = 16
_FIELDS = ("chat_id", "parent_chat_id", "timestamp", "input_length", "output_length", "hash_ids")
_BASE = (
    "https://media.githubusercontent.com/media/alibaba-edu/qwen-bailian-usagetraces-anon/5f7439c51ec248a0c585f7d90a41a6f57773b912"
)
_CITATION = "Wang et al., KVCache cache in the wild, USENIX ATC 2025"


def recognises(path: Path) -> bool:
    line = first_text(path).lstrip().split("\n", 1)[0]
    return line.startswith("{") and all(f'"{f}"' in line for f in _FIELDS)


@dataclass(slots=True)
class _Chats:
    """The rows of a file in columns; `session` and `follows` (the row of the turn before, −1: none) of every row."""

    start_us: "array[int]" = field(default_factory=lambda: array("q"))
    chat: "array[int]" = field(default_factory=lambda: array("q"))
    parent: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("q"))
    output: "array[int]" = field(default_factory=lambda: array("q"))
    ids: "array[int]" = field(default_factory=lambda: array("q"))
    bounds: "array[int]" = field(default_factory=lambda: array("q", [0]))


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read {chat_id, parent_chat_id (−1: none), timestamp s, input_length, output_length, hash_ids, …} into sessions.

    A chat goes on with the first chat that names it as parent; any other one, or one whose parent is not among the rows before,
    begins a session of its own (counted). Raises ValueError "FILE:LINE: …" on a malformed row.
    """
    chats = _Chats()
    for record in json_records(path):
        _append(chats, record)
    tally.rows_read = len(chats.chat)
    follows = _follows(chats, tally)
    order, counts = _sessions(follows, chats)
    blocks = Blocks.of(chats.ids, chats.bounds, chats.lengths, BLOCK_TOKENS)
    yield _table(chats, blocks, order, counts, tally)


def _append(chats: _Chats, record: Record) -> None:
    parent = record.values.get("parent_chat_id")
    chats.parent.append(-1 if type(parent) is int and parent == -1 else record.whole("parent_chat_id", 1 << 62))
    chats.chat.append(record.whole("chat_id", 1 << 62))
    chats.start_us.append(round(record.number("timestamp", 1 << 33) * 1e6))
    chats.lengths.append(record.whole("input_length"))
    chats.output.append(record.whole("output_length"))
    chats.ids.extend(block_ids(record, chats.lengths[-1], BLOCK_TOKENS))
    chats.bounds.append(len(chats.ids))


def _follows(chats: _Chats, tally: Tally) -> list[int]:
    """For every row the row of the turn before it, −1 where it begins a session.

    Rows are taken in time order, and a parent must have come before: so there are no circles.
    """
    follows = [-1] * len(chats.chat)
    row_of: dict[int, int] = {}
    continued: set[int] = set()
    known = set(chats.chat)
    for row in np.argsort(np.array(chats.start_us), kind="stable").tolist():
        parent = chats.parent[row]
        before = row_of.get(parent, -1)
        if parent >= 0 and before < 0:
            why = "its parent is itself or comes later" if parent in known else "its parent is not in the file"
            tally.changed[f"{why}: begins a session"] += 1
        elif before in continued:
            tally.changed["its parent has gone on already (a branch): begins a session with the whole prompt"] += 1
        elif before >= 0:
            follows[row] = before
            continued.add(before)
        if chats.chat[row] in row_of:
            tally.changed["chat_id seen before: later turns follow the last one"] += 1
        row_of[chats.chat[row]] = row
    return follows


def _sessions(follows: list[int], chats: _Chats) -> tuple[list[int], list[int]]:
    """(rows session by session in order of their starts, turns of each)."""
    after = {before: row for row, before in enumerate(follows) if before >= 0}
    order: list[int] = []
    counts: list[int] = []
    for row in np.argsort(np.array(chats.start_us), kind="stable").tolist():
        if follows[row] >= 0:
            continue
        begin, at = len(order), row
        while at >= 0:
            order.append(at)
            at = after.get(at, -1)
        counts.append(len(order) - begin)
    return order, counts


def _table(chats: _Chats, blocks: Blocks, order: list[int], counts: list[int], tally: Tally) -> Any:
    import pyarrow as pa

    rows, turns = np.array(order), np.array(counts)
    first = np.zeros(len(rows), dtype=bool)
    first[np.cumsum(turns) - turns] = True
    in_order, common = sorted_prompts(blocks)
    shared = _shared_with_others(in_order, common, rows, turns)
    appended = np.repeat(_appended(blocks, np.array(chats.output), rows, turns, shared), turns) & ~first
    tally.notes += [
        f"{int((turns > 1).sum())} sessions of several turns; in {int((appended & np.roll(first, 1)).sum())} of them every prompt"
        " continues the one before and its reply, and turns are appended; elsewhere every prompt is its own list of blocks",
        f"blocks of {BLOCK_TOKENS} tokens are joined where no other prompt leaves them; a partial last block has its own content",
        "the time between an answer's end and the next turn is unknown; the time between their starts is the source's",
    ]
    length, output = blocks.tokens[rows], np.array(chats.output)[rows]
    user = np.where(appended, length - np.roll(length + output, 1), length)
    start_us = np.array(chats.start_us)[rows]
    gap = pa.array(np.where(first, 0, start_us - np.roll(start_us, 1)), pa.int64(), mask=first)
    cut = runs(blocks, in_order, common)
    per_turn = np.where(appended, 0, np.diff(cut.bounds)[rows])
    index = np.repeat(cut.bounds[:-1][rows] - (np.cumsum(per_turn) - per_turn), per_turn) + np.arange(per_turn.sum())
    per_session = np.add.reduceat(per_turn, np.flatnonzero(first))
    return pa.table(
        {
            "user_tokens": list_of(turns, pa.array(user, pa.int32())),
            "reply_tokens": list_of(turns, pa.array(output, pa.int32())),
            "start_us": pa.array(start_us[first]),
            "conversation_id": pa.array([f"chat-{chats.chat[row]}" for row in rows[first].tolist()]),
            "gap_us": list_of(turns, gap),
            "restarts": list_of(turns, pa.array(~appended & ~first)),
            "segments": list_of(turns, pa.array(per_turn, pa.int32())),
            "segment_ids": list_of(per_session, pa.array(cut.ids[index], pa.int64())),
            "segment_tokens": list_of(per_session, pa.array(cut.tokens[index], pa.int32())),
        }
    )


def _appended(blocks: Blocks, output: Any, rows: Any, turns: Any, shared: Any) -> Any:
    """For every session whether its later prompts can be told as prompt + reply + new tokens without losing shared blocks.

    Every later prompt must begin with the whole blocks of the one before and have room for its reply and a new token, and no
    other session may share a block beyond its first prompt.
    """
    firsts = rows[np.cumsum(turns) - turns]
    good = (turns > 1) & (shared <= np.diff(blocks.bounds)[firsts])
    flat, edges, lengths = blocks.ids, blocks.bounds.tolist(), blocks.tokens.tolist()
    for i, (end, count) in enumerate(zip(np.cumsum(turns).tolist(), turns.tolist(), strict=True)):
        chain = rows[end - count : end].tolist() if good[i] else []
        for before, row in pairwise(chain):
            whole = lengths[before] // BLOCK_TOKENS
            a, b = edges[before], edges[row]
            opens = np.array_equal(flat[a : a + whole], flat[b : min(b + whole, edges[row + 1])])
            good[i] &= opens and lengths[row] > lengths[before] + int(output[before])
    return good


def _shared_with_others(order: list[int], common: list[int], rows: Any, turns: Any) -> Any:
    """The most blocks that any prompt of a session shares with a prompt of another session, from the sorted prompts."""
    session = np.empty(len(rows), dtype=np.int64)
    session[rows] = np.repeat(np.arange(len(turns)), turns)
    sorted_sessions = session[order].tolist()
    most = [0] * len(turns)
    for sessions, lengths in ((sorted_sessions, common), (sorted_sessions[::-1], [0, *common[:0:-1]])):
        least, last = 0, -1
        for at, length in zip(sessions, lengths, strict=True):
            least = min(least, length) if at == last else length
            last = at
            most[at] = max(most[at], least)
    return np.array(most)


def _source(name: str, what: str, file: str, sha256: str, published: Mapping[str, float]) -> Source:
    remote = RemoteFile(url=f"{_BASE}/{file}", sha256=sha256, licence="Apache-2.0")
    get: Callable[[], Path] = lambda: fetch(name, [remote])  # noqa: E731
    about = f"Alibaba production chats with 16-token prefix block ids, two hours: {what}"
    return Source(name, about, "Apache-2.0", _CITATION, recognises, read, get, published)


QWEN_BAILIAN = _source(
    "qwen_bailian",
    "people's chats (to-C)",
    "qwen_traceA_blksz_16.jsonl",
    "07cedc9ed8aff301994ac68ed4aede8123b7603673575eeba9dd677de663db17",
    {"prefix_reuse": 0.62},
)
QWEN_BAILIAN_API = _source(
    "qwen_bailian_api",
    "programs' calls (to-B; same format: a file is taken for `qwen_bailian` unless this name is given)",
    "qwen_traceB_blksz_16.jsonl",
    "68e3f98e2d601d60d0abf4b89bc8a3654372abab7b1cde6373a13d0054379d59",
    {"prefix_reuse": 0.54},
)
QWEN_BAILIAN_CODER = _source(
    "qwen_bailian_coder",
    "coding (same format: a file is taken for `qwen_bailian` unless this name is given)",
    "qwen_coder_blksz_16.jsonl",
    "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
    {},
)
QWEN_BAILIAN_THINKING = _source(
    "qwen_bailian_thinking",
    "a thinking model (same format: a file is taken for `qwen_bailian` unless this name is given)",
    "qwen_thinking_blksz_16.jsonl",
    "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
    {},
)
