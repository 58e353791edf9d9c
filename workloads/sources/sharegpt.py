"""ShareGPT: a JSON array of chats between people and models, as text. It knows no times, no users and no exact token counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.sources.chat_table import Chat
from workloads.sources.chats import chat_tables, whole
from workloads.sources.download import fetch, on_hub
from workloads.sources.json_array import array_records, shown
from workloads.sources.source import ReadOptions, Source, Tally, first_text

_LICENCE = "apache-2.0 as tagged on the hub, unverified; users' shared chats: research only"
REPO = "anon8231489123/ShareGPT_Vicuna_unfiltered"
FILES = on_hub(
    REPO,
    ["ShareGPT_V3_unfiltered_cleaned_split.json"],
    "192ab2185289094fc556ec8ce5ce1e8e587154ca",
    licence=_LICENCE,
    sha256={"ShareGPT_V3_unfiltered_cleaned_split.json": "35f0e213ce091ed9b9af2a1f0755e9d39f9ccec34ab281cd4ca60d70f6479ba4"},
    size_bytes={"ShareGPT_V3_unfiltered_cleaned_split.json": 672_837_942},
)


def recognises(path: Path) -> bool:
    head = first_text(path)
    return head.lstrip().startswith("[") and '"conversations"' in head


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read [{id, conversations: [{from, value}]}] by the rules of `chats`, texts included.

    Raises ValueError "FILE:LINE: record N …" on a malformed record or broken JSON.
    """
    yield from chat_tables(_chats(path), ("human", "gpt"), tally)


def _chats(path: Path) -> Iterator[Chat]:
    for line, number, record in array_records(path):
        try:
            messages = record["conversations"]
            name, roles, texts = record["id"], [m["from"] for m in messages], [m["value"] for m in messages]
            whole_record = isinstance(messages, list) and {str}.issuperset(map(type, (name, *roles, *texts)))
        except (TypeError, KeyError, IndexError):
            whole_record = False
        if not whole_record:
            raise ValueError(f"{path}:{line}: record {number}: {_problem(record)}")
        yield Chat(whole(name), roles, texts)


def _problem(record: Any) -> str:
    """What is wrong with a record, in words."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        return f"expected an object with a text 'id', found {shown(record)}"
    messages = record.get("conversations")
    if not isinstance(messages, list):
        return f"'conversations' of {record['id'][:40]!r} is {shown(messages)}; expected a list of messages"
    for i, message in enumerate(messages, 1):
        if not (isinstance(message, dict) and isinstance(message.get("from"), str) and isinstance(message.get("value"), str)):
            return f"message {i} of {record['id'][:40]!r} is {shown(message)}; expected {{'from': text, 'value': text}}"
    raise AssertionError("a whole record")


SHAREGPT = Source(
    name="sharegpt",
    about="94,145 multi-turn chats that users shared, as text, no times (by name: from the Hugging Face hub)",
    licence=_LICENCE,
    citation=f"Hugging Face data set {REPO}",
    recognises=recognises,
    read=read,
    fetch=lambda: fetch("sharegpt", FILES),
    published={"sessions": 94_145, "turns": 330_239, "turns_per_session.mean": 3.51},  # before the rules
)
