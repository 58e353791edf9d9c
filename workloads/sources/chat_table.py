"""Chats of question-answer pairs as a table of the trace's schema, texts included. It does not know which chats to keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from workloads.content import text_id
from workloads.tokens import estimate_column
from workloads.trace_table import SCHEMA, list_of


@dataclass(slots=True)
class Chat:
    """A chat as its source holds it: a role and a text for each message.

    `times_us`, where known, tells when each message was logged, `last_us` when the chat was. `key` tells it from
    other chats of its name.
    """

    name: str
    roles: list[str]
    texts: list[str]
    key: str | None = None
    times_us: list[int | None] | None = None
    last_us: int | None = None
    tenant: int | None = None
    language: str | None = None
    model: str | None = None


@dataclass(slots=True)
class Paired:
    """A chat's questions and answers behind its system prompt; when it starts, and each turn after the one before it."""

    chat: Chat
    system: str | None
    questions: list[str]
    answers: list[str]
    start_us: int | None = None
    gaps_us: list[int | None] | None = None


def chat_table(rows: Sequence[Paired]) -> Any:
    """One row a chat; columns that say nothing are left out."""
    turns = np.array([len(row.questions) for row in rows], dtype=np.int64)
    questions = pa.array(list(chain.from_iterable(row.questions for row in rows)), pa.string())
    answers = pa.array(list(chain.from_iterable(row.answers for row in rows)), pa.string())
    asked = estimate_column(questions)
    columns = {
        "user_tokens": list_of(turns, pa.array(asked)),
        "reply_tokens": list_of(turns, pa.array(estimate_column(answers))),
        "conversation_id": pa.array([row.chat.name for row in rows], pa.string()),
        "segments": list_of(turns, pa.array((asked > 0).astype(np.int32))),
        **_question_segments(rows, turns, asked),
        "user_text": list_of(turns, questions),
        "reply_text": list_of(turns, answers),
        **_prefixes(rows),
        **_times(rows, turns),
    }
    for name in ("tenant", "language", "model"):
        values = [getattr(row.chat, name) for row in rows]
        if any(value is not None for value in values):
            columns[name] = pa.array(values, SCHEMA.field(name).type)
    return pa.table({name: columns[name] for name in SCHEMA.names if name in columns})


def _question_segments(rows: Sequence[Paired], turns: Any, asked: Any) -> dict[str, Any]:
    """Each question that says something is one segment of content: its text."""
    filled = asked > 0
    a_row = np.add.reduceat(filled, np.cumsum(turns) - turns, dtype=np.int64)
    ids = [text_id(text) for row in rows for text in row.questions if text]
    return {"segment_ids": list_of(a_row, pa.array(ids, pa.int64())), "segment_tokens": list_of(a_row, pa.array(asked[filled]))}


def _prefixes(rows: Sequence[Paired]) -> dict[str, Any]:
    systems = [row.system for row in rows]
    said = [text for text in systems if text]
    if not said:
        return {}
    a_row = np.array([1 if text else 0 for text in systems], dtype=np.int64)
    return {
        "prefix_ids": list_of(a_row, pa.array([text_id(text) for text in said], pa.int64())),
        "prefix_tokens": list_of(a_row, pa.array(estimate_column(pa.array(said, pa.string())))),
        "prefix_text": pa.array(systems, pa.string()),
    }


def _times(rows: Sequence[Paired], turns: Any) -> dict[str, Any]:
    if all(row.start_us is None for row in rows):
        return {}
    gaps = list(chain.from_iterable(row.gaps_us or [None] * len(row.questions) for row in rows))
    return {
        "start_us": pa.array([row.start_us for row in rows], pa.int64()),
        "gap_us": list_of(turns, pa.array(gaps, pa.int64())),
    }
