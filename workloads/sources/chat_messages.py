"""A row's messages {role, content, …} and other texts, checked. It does not know which columns a source has."""

from datetime import UTC, datetime, timedelta
from typing import Any

from workloads.sources.json_array import shown
from workloads.sources.json_lines import Record
from workloads.sources.source import Tally

_LONGEST_CHARACTERS = 64 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES_ALLOWED = "a time as 2024-05-01T12:30:00 (UTC without an offset), or a Unix time in s, ms, µs or ns"


def messages_of(record: Record, key: str, tally: Tally) -> list[dict[str, Any]]:
    """The list of messages under `key`, each with a `role` and a `content`; content that is null is made empty, and counted."""
    messages = record.values.get(key)
    if not isinstance(messages, list):
        raise record.wrong(key, "a list of messages")
    absent = 0
    for i, message in enumerate(messages, 1):
        if not (isinstance(message, dict) and isinstance(message.get("role"), str)):
            raise ValueError(f"{record.place}: message {i} is {shown(message)}; expected {{'role': text, 'content': text}}")
        content = message.get("content")
        if content is None:
            message["content"], absent = "", 1
        elif not isinstance(content, str) or len(content) > _LONGEST_CHARACTERS:
            raise ValueError(
                f"{record.place}: content of message {i} is {shown(content)}; expected a text up to 64 Mi characters"
            )
    if absent:
        tally.changed["messages without text read as empty"] += 1
    return messages


def optional_text(record: Record, key: str) -> str | None:
    return record.text(key) if record.known(key) else None


def time_us(value: Any, place: str, name: str) -> int | None:
    """Microseconds since 1970 of a text in ISO 8601 or of a Unix time, whose unit its size tells (2001 … 2286); None for null."""
    if value is None:
        return None
    for least, times, parts in ((1e9, 1_000_000, 1), (1e12, 1_000, 1), (1e15, 1, 1), (1e18, 1, 1_000)):
        if type(value) in (int, float) and least <= value < 10 * least:
            return int(value * times // parts)
    if isinstance(value, str):
        try:
            read = datetime.fromisoformat(value.strip())
            return (read.replace(tzinfo=read.tzinfo or UTC) - _EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            pass
    raise ValueError(f"{place}: {name} is {shown(value)}; expected {_TIMES_ALLOWED}")
