"""Mooncake traces: one JSON line a request with the ids of its 512-token prompt blocks. It knows no sessions and no users."""

import json
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

from workloads.columns import whole_microseconds
from workloads.content import PARTIAL_BLOCK, content_id
from workloads.conversation import Conversation, Trace, Turn
from workloads.draws import generator
from workloads.request import Segment
from workloads.sources.download import url_file
from workloads.sources.source import Source, file_sha256, first_text

BLOCK_TOKENS = 512
TICK_S = 3.0
_URL = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/3b5a594133958449a1feaf1c9e0fc1b553e34a28/"
    "FAST25-release/traces/conversation_trace.jsonl"
)
_FIELDS = ("timestamp", "input_length", "output_length")
_LIMITS = {"timestamp": 1 << 40, "input_length": 1 << 31, "output_length": 1 << 31}


def recognises(path: Path) -> bool:
    line = first_text(path).split("\n", 1)[0]
    return line.lstrip().startswith("{") and all(f'"{f}"' in line for f in (*_FIELDS, "hash_ids"))


def load(path: Path, seed: int = 0) -> Trace:
    """Read {timestamp ms, input_length, output_length, hash_ids}; a prompt is its blocks, the last one partial.

    Timestamps are ticks of 3 s in the source, so each is moved by U(0, 3 s), seeded, and rows are put in time order: counted
    as changed. The blocks that open *every* prompt are its system prompt. Raises ValueError "FILE:LINE: …" on a malformed row.
    """
    rows = list(_rows(path))
    jitter_s = generator(seed, "mooncake-tick-jitter").uniform(0.0, TICK_S, len(rows))
    starts = whole_microseconds(row["timestamp"] / 1e3 + j for row, j in zip(rows, jitter_s.tolist(), strict=True))
    shared = _shared_blocks(rows)
    prefix = tuple(Segment(block, BLOCK_TOKENS) for block in shared)
    order = sorted(range(len(rows)), key=starts.__getitem__)
    first_s = starts[order[0]] if order else 0.0
    conversations = tuple(
        Conversation(
            conversation_id=f"line-{rows[i]['line']}",
            turns=(_turn(rows[i], len(shared)),),
            prefix=prefix,
            start_s=round((starts[i] - first_s) * 1e6) / 1e6,
        )
        for i in order
    )
    return Trace(
        MOONCAKE.name,
        conversations,
        {
            "source": MOONCAKE.name,
            "licence": MOONCAKE.licence,
            "citation": MOONCAKE.citation,
            "file": path.name,
            "sha256": file_sha256(path),
            "rows_read": len(rows),
            "rows_dropped": {},
            "rows_changed": {f"timestamp moved by U(0, {TICK_S:g} s) within its tick, seed {seed}": len(rows)},
            "token_counts": "exact",
            "synthetic": False,
            "has_timestamps": True,
            "has_sessions": False,
            "notes": [
                f"{len(shared)} block(s) of {BLOCK_TOKENS} tokens open every prompt: taken as the system prompt",
                "every row is a session of one turn; prompts share the blocks of the source",
            ],
        },
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from error
            problem = _problem(row)
            if problem:
                raise ValueError(f"{path}:{number}: {problem}")
            yield {**row, "line": number}


def _problem(row: Any) -> str:
    """What is wrong with a row, in words; empty when nothing is."""
    if not isinstance(row, dict):
        return f"expected an object, found {type(row).__name__}"
    for field in _FIELDS:
        value = row.get(field)
        number = isinstance(value, int | float) if field == "timestamp" else isinstance(value, int)
        if isinstance(value, bool) or not number or not 0 <= (value or 0) < _LIMITS[field]:
            return f"{field} is {repr(value)[:60]}; expected a number ≥ 0 and < {_LIMITS[field]}"
    blocks = row.get("hash_ids")
    if not isinstance(blocks, list) or not all(type(b) is int and 0 <= b < 1 << 62 for b in blocks):
        return f"hash_ids is {str(blocks)[:60]!r}; expected a list of block ids ≥ 0"
    wanted = -(-row["input_length"] // BLOCK_TOKENS)
    if len(blocks) != wanted:
        return f"hash_ids has {len(blocks)} blocks; an input_length of {row['input_length']} has {wanted}"
    return ""


def _shared_blocks(rows: list[dict[str, Any]]) -> list[int]:
    """The whole blocks that open every prompt and leave each of them something of its own."""
    if len(rows) < 2:
        return []
    lists = [row["hash_ids"] for row in rows]
    least, most = min(lists), max(lists)  # in lexicographic order, so what these two share all share
    common = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(least, most, strict=False))]
    return common[: max(0, min(map(len, lists)) - 1)]


def _turn(row: dict[str, Any], shared: int) -> Turn:
    blocks = row["hash_ids"][shared:]
    tokens = row["input_length"] - BLOCK_TOKENS * shared
    last = tokens - BLOCK_TOKENS * (len(blocks) - 1)
    segments = [Segment(block, BLOCK_TOKENS) for block in blocks]
    if blocks and last != BLOCK_TOKENS:
        # equal ids must be equal tokens, whatever the source does with a partial block's id
        segments[-1] = Segment(content_id(PARTIAL_BLOCK, blocks[-1], last), last)
    return Turn(tokens, row["output_length"], tuple(segments))


MOONCAKE = Source(
    name="mooncake",
    about="Kimi production requests with 512-token prefix block ids, one hour (by name: the conversation trace)",
    licence="Apache-2.0",
    citation="Qin et al., Mooncake: Trading more storage for less computation, FAST 2025",
    recognises=recognises,
    load=load,
    fetch=lambda: url_file("mooncake", _URL),
)
