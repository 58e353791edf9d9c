"""Mooncake traces: one JSON line a request with the ids of its 512-token prompt blocks. It knows no sessions and no users."""

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workloads.draws import generator
from workloads.sources.blocks import Blocks, shared_opening
from workloads.sources.download import RemoteFile, fetch
from workloads.sources.json_lines import Record, json_records
from workloads.sources.source import ReadOptions, Source, Tally, first_text
from workloads.trace_table import list_of, single_turns

BLOCK_TOKENS = 512
TICK_MS = 3000
_FIELDS = ("timestamp", "input_length", "output_length", "hash_ids")
_BASE = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/9fbd622256e7a26aeea9f038e316eeb58203c102/FAST25-release/traces"
_LICENCE = "Apache-2.0 (the repository's; the traces name none of their own)"
_CITATION = "Qin et al., Mooncake: Trading more storage for less computation, FAST 2025"


def recognises(path: Path) -> bool:
    line = first_text(path).lstrip().split("\n", 1)[0]
    return line.startswith("{") and all(f'"{f}"' in line for f in _FIELDS) and '"chat_id"' not in line


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read {timestamp ms, input_length, output_length, hash_ids}; a prompt is its blocks, the last one partial.

    Where every timestamp is a tick of 3 s, each is moved by U(0, 3 s), seeded and counted as changed; rows come in time order.
    The blocks that open *every* prompt are its system prompt. Raises ValueError "FILE:LINE: …" on a malformed row.
    """
    time_ms, output, lines = array("d"), array("q"), array("q")
    ids, bounds, lengths = array("q"), [0], array("q")
    for record in json_records(path):
        time_ms.append(record.number("timestamp", 1 << 40))
        lengths.append(record.whole("input_length"))
        output.append(record.whole("output_length"))
        ids.extend(block_ids(record, lengths[-1], BLOCK_TOKENS))
        bounds.append(len(ids))
        lines.append(int(record.place.rpartition(":")[2]))
    tally.rows_read, tally.has_sessions = len(lines), False
    blocks = Blocks.of(ids, bounds, lengths, BLOCK_TOKENS)
    shared = shared_opening(blocks)
    tally.notes += [
        f"{shared} block(s) of {BLOCK_TOKENS} tokens open every prompt: taken as the system prompt",
        "every row is a session of one turn; prompts share the blocks of the source",
    ]
    start_us = _start_us(np.array(time_ms), options.seed, tally)
    order = np.argsort(start_us, kind="stable")
    yield _table(blocks, shared, start_us, np.array(output), np.array(lines)).take(order)


def block_ids(record: Record, length: int, block_tokens: int) -> list[int]:
    """The blocks of a prompt of `length` tokens: as many as it fills, the last one perhaps in part."""
    found, wanted = record.ids("hash_ids"), -(-length // block_tokens)
    if len(found) != wanted:
        raise ValueError(f"{record.place}: hash_ids has {len(found)} blocks; an input_length of {length} has {wanted}")
    return found


def _start_us(time_ms: Any, seed: int, tally: Tally) -> Any:
    if not np.all((time_ms + 1) % TICK_MS <= 2):  # the source's ticks are a millisecond off at times
        return np.rint(time_ms * 1e3).astype(np.int64)
    jitter_s = generator(seed, "mooncake-tick-jitter").uniform(0.0, TICK_MS / 1e3, len(time_ms))
    tally.changed[f"timestamp moved by U(0, {TICK_MS / 1e3:g} s) within its tick, seed {seed}"] += len(time_ms)
    return np.rint((time_ms / 1e3 + jitter_s) * 1e6).astype(np.int64)


def _table(blocks: Blocks, shared: int, start_us: Any, output: Any, lines: Any) -> Any:
    """One conversation a prompt: its first `shared` blocks are the prefix, the others its only turn."""
    import pyarrow as pa

    n, counts = len(lines), np.diff(blocks.bounds)
    place = np.arange(len(blocks.ids)) - np.repeat(blocks.bounds[:-1], counts)
    own, tokens = place >= shared, blocks.block_lengths()
    made = single_turns(
        {
            "user_tokens": blocks.tokens - shared * BLOCK_TOKENS,
            "reply_tokens": output,
            "start_us": start_us,
            "conversation_id": [f"line-{line}" for line in lines.tolist()],
            "segments": counts - shared,
        }
    )
    lists = {
        "segment_ids": list_of(counts - shared, pa.array(blocks.ids[own], pa.int64())),
        "segment_tokens": list_of(counts - shared, pa.array(tokens[own], pa.int32())),
    }
    if shared:
        lists["prefix_ids"] = list_of(np.full(n, shared), pa.array(blocks.ids[~own], pa.int64()))
        lists["prefix_tokens"] = list_of(np.full(n, shared), pa.array(tokens[~own], pa.int32()))
    for name, column in lists.items():
        made = made.append_column(name, column)
    return made


def _source(name: str, what: str, file: str, sha256: str, published: dict[str, float]) -> Source:
    remote = RemoteFile(url=f"{_BASE}/{file}", sha256=sha256, licence=_LICENCE)
    get: Callable[[], Path] = lambda: fetch(name, [remote])  # noqa: E731
    about = f"Kimi requests with 512-token prefix block ids: {what}"
    return Source(name, about, _LICENCE, _CITATION, recognises, read, get, published)


MOONCAKE = _source(
    "mooncake",
    "conversations of one hour",
    "conversation_trace.jsonl",
    "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
    {"sessions": 12_031, "input_tokens.mean": 12_000, "output_tokens.mean": 343, "prefix_reuse": 0.40},
)
MOONCAKE_TOOLAGENT = _source(
    "mooncake_toolagent",
    "tools and agents of one hour (same format: a file is taken for `mooncake` unless this name is given)",
    "toolagent_trace.jsonl",
    "48a2db1a13d3bc05e6330140c64f604ba366df20d3c9e128b5c35a01c1fa5f71",
    {"sessions": 23_608},
)
MOONCAKE_SYNTHETIC = _source(
    "mooncake_synthetic",
    "a mix made by its authors (same format: a file is taken for `mooncake` unless this name is given)",
    "synthetic_trace.jsonl",
    "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
    {"sessions": 3_993},
)
