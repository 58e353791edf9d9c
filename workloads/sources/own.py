"""A user's own requests: a table whose columns are mapped or have usual names. It knows no published format."""

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workloads.sources.blocks import Blocks
from workloads.sources.call_sessions import UNKNOWN, Calls, Numbering, conversations
from workloads.sources.column_names import CLOCKS, column_names, has_lengths
from workloads.sources.source import ReadOptions, Source, Tally
from workloads.sources.typed_columns import bad, instants_us, texts, times_us, token_counts, values_of
from workloads.sources.user_table import Block, user_table
from workloads.trace_table import single_turns

_WHOLE = ("tenant", "model", "language")


def recognises(path: Path) -> bool:
    """True for a table with usual names for the tokens of prompts and answers."""
    try:
        return has_lengths(user_table(path).names)
    except ValueError:
        return False


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read the columns that `options.columns` maps (see `column_names.KEYS`), the others by their usual names.

    `input_tokens` is the whole prompt of a call, `user_tokens` only its new message. Without a session column every row is a
    conversation and rows stream; with one (or with block ids) the columns are held and a session's calls grouped, in order of
    time. Raises ValueError in one line: a mapping that does not fit, or "FILE:LINE: …" for a malformed row.
    """
    table = user_table(path)
    names = column_names(table.place, table.names, options.columns, table.dated)
    tally.has_sessions = "session" in names
    tally.notes.append("columns: " + ", ".join(f"{key}={column}" for key, column in names.items()))
    wanted = list(dict.fromkeys(column for key, column in names.items() if key != "block_tokens"))
    lengths = [names[key] for key in ("input_tokens", "user_tokens", "output_tokens") if key in names]
    tenants = Numbering(first=1)
    rows = (_typed(block, names, tenants, tally) for block in table.blocks(wanted, integers=lengths))
    if "session" in names or "hash_ids" in names:
        if "input_tokens" in names and "session" in names:
            tally.notes.append("a call's new message is what the call before it and its answer do not account for")
        yield _grouped(rows, names, tally)
        return
    tally.notes.append("lengths only: every prompt counts as unique content, so nothing is shared between requests")
    for columns in rows:
        yield single_turns(columns)


def _typed(block: Block, names: dict[str, str], tenants: Numbering, tally: Tally) -> dict[str, Any]:
    """The block's columns under the names of the schema (and session, think_us, block lists)."""
    prompt, output = names.get("input_tokens") or names["user_tokens"], names["output_tokens"]
    made: dict[str, Any] = {
        "user_tokens": token_counts(block.columns[prompt], prompt, block.where),
        "reply_tokens": token_counts(block.columns[output], output, block.where),
    }
    tally.rows_read += len(made["user_tokens"])
    for key in names.keys() & {*CLOCKS, "start_time"}:
        made["start_us"] = _starts_us(block, key, names[key])
    for key in ("session", "model", "language", "tenant"):
        if key in names:
            made[key] = texts(block.columns[names[key]], names[key], block.where)
    if "tenant" in made:
        made["tenant"] = pa.array(tenants.of(made["tenant"], 0).astype(np.int32))
    if "think_s" in names:
        made["think_us"] = _think_us(block, names["think_s"])
    if "hash_ids" in names:
        made["hash_ids"] = _block_ids(block, names["hash_ids"])
        made["where"] = [block.where(row) for row in range(len(made["user_tokens"]))]
    return made


def _starts_us(block: Block, key: str, name: str) -> Any:
    column = block.columns[name]
    return instants_us(column, name, block.where) if key == "start_time" else times_us(column, name, block.where, CLOCKS[key])


def _think_us(block: Block, name: str) -> Any:
    """Think times, UNKNOWN where there is none (a session's first call)."""
    column = texts(block.columns[name], name, block.where)
    known = np.asarray(pc.fill_null(pc.not_equal(column, ""), False))
    us = times_us(pc.if_else(pa.array(known), column, "0"), name, block.where)
    if (us < 0).any():
        row = int(np.argmax(us < 0))
        raise bad(block.where(row), name, column[row].as_py(), "a number of seconds ≥ 0")
    return np.where(known, us, UNKNOWN)


def _block_ids(block: Block, name: str) -> list[list[int]]:
    """Every row's list of block ids, given as a list or as the text of one."""
    made = []
    for row, value in enumerate(values_of(block.columns[name])):
        try:
            ids = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            ids = None
        if not isinstance(ids, list) or not all(type(i) is int and 0 <= i < 1 << 62 for i in ids):
            raise bad(block.where(row), name, value, "a list of block ids ≥ 0 and < 2^62")
        made.append(ids)
    return made


def _grouped(rows: Iterator[dict[str, Any]], names: dict[str, str], tally: Tally) -> Any:
    sessions, labels = Numbering(), {name: Numbering() for name in ("model", "language")}
    parts: dict[str, list[Any]] = {}
    lists = _BlockLists(int(names["block_tokens"]), names["hash_ids"]) if "hash_ids" in names else None
    for columns in rows:
        if lists is not None:
            lists.add(columns.pop("hash_ids"), columns["user_tokens"], columns.pop("where"))
        if "session" not in columns:
            columns["session"] = np.full(len(columns["user_tokens"]), -1)
        else:
            columns["session"] = sessions.of(columns["session"], -1)
        for name in labels.keys() & columns.keys():
            columns[name] = labels[name].of(columns[name], -1).astype(np.int32)
        for name, values in columns.items():
            parts.setdefault(name, []).append(np.asarray(values))
    if not parts:
        return single_turns({"user_tokens": [], "reply_tokens": []})
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    said = {name: labels[name].decoded(whole[name]) for name in labels if name in whole}
    if "tenant" in whole:
        said["tenant"] = pa.array(whole["tenant"])
    calls = Calls(
        session=whole["session"],
        session_ids=sessions.names,
        input_tokens=whole["user_tokens"],
        output_tokens=whole["reply_tokens"],
        start_us=whole.get("start_us"),
        think_us=whole.get("think_us"),
        whole_prompt="input_tokens" in names,
        whole=said,
        blocks=lists.blocks() if lists is not None else None,
    )
    return conversations(calls, tally)


class _BlockLists:
    """The block ids of all prompts, flat."""

    def __init__(self, block_tokens: int, name: str) -> None:
        self.block_tokens, self.name = block_tokens, name
        self.ids, self.bounds, self.tokens = array("q"), [0], array("q")

    def add(self, lists: list[list[int]], tokens: Any, where: list[str]) -> None:
        for ids, length, place in zip(lists, tokens.tolist(), where, strict=True):
            if len(ids) != -(-length // self.block_tokens):
                wanted = f"{-(-length // self.block_tokens)} blocks of {self.block_tokens} for {length} tokens"
                raise ValueError(f"{place}: {self.name} has {len(ids)} blocks; expected {wanted}")
            self.ids.extend(ids)
            self.bounds.append(len(self.ids))
            self.tokens.append(length)

    def blocks(self) -> Blocks:
        return Blocks.of(self.ids, self.bounds, self.tokens, self.block_tokens)


OWN = Source(
    name="own",
    about="your own requests: a CSV, JSON-lines or Parquet table, columns mapped with --map KEY=COLUMN or named as usual",
    licence="the user's own",
    citation="none: the file is the user's own",
    recognises=recognises,
    read=read,
    takes_columns=True,
)
