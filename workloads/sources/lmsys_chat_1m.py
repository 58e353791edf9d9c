"""LMSYS-Chat-1M: a million chats with 25 models, as text. It knows no times, no users and no exact token counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.sources.chat_messages import messages_of, optional_text
from workloads.sources.chat_rows import chat_records, has_columns
from workloads.sources.chat_table import Chat
from workloads.sources.chats import chat_tables
from workloads.sources.download import fetch, on_hub
from workloads.sources.source import ReadOptions, Source, Tally

_LICENCE = "LMSYS-Chat-1M Dataset License Agreement (gated; no redistribution)"
FILES = on_hub(
    "lmsys/lmsys-chat-1m",
    [
        "data/train-00000-of-00006-4feeb3f83346a0e9.parquet",
        "data/train-00001-of-00006-4030672591c2f478.parquet",
        "data/train-00002-of-00006-1779b7cec9462180.parquet",
        "data/train-00003-of-00006-2fa862bfed56af1f.parquet",
        "data/train-00004-of-00006-18f4bdd50c103e71.parquet",
        "data/train-00005-of-00006-fe1acc5d10a9f0e2.parquet",
    ],
    "200748d9d3cddcc9d782887541057aca0b18c5da",
    licence=_LICENCE,
    gated=True,
)
_COLUMNS = {"conversation_id": (), "model": (), "language": (), "conversation": ("role", "content")}


def recognises(path: Path) -> bool:
    return has_columns(path, ("conversation_id", "conversation", "model"), unwanted=("conversation_hash", "timestamp"))


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read the hub's Parquet shards, or JSON lines of the same columns, by the rules of `chats`, texts included.

    A folder of shards is one trace. Raises ValueError "FILE:LINE: …" (Parquet: "FILE: row N: …") on a malformed row.
    """
    yield from chat_tables(_chats(path, tally), ("user", "assistant"), tally)


def _chats(path: Path, tally: Tally) -> Iterator[Chat]:
    for record in chat_records(path, _COLUMNS):
        messages = messages_of(record, "conversation", tally)
        yield Chat(
            record.text("conversation_id"),
            [m["role"] for m in messages],
            [m["content"] for m in messages],
            language=optional_text(record, "language"),
            model=optional_text(record, "model"),
        )


LMSYS_CHAT_1M = Source(
    name="lmsys_chat_1m",
    about="a million chats with 25 models on Vicuna's demo and Chatbot Arena, as text, no times (by name: from the hub, gated)",
    licence=_LICENCE,
    citation="Zheng et al., LMSYS-Chat-1M: A large-scale real-world LLM conversation dataset, ICLR 2024",
    recognises=recognises,
    read=read,
    fetch=lambda: fetch("lmsys_chat_1m", FILES),
    published={"sessions": 1_000_000},
)
