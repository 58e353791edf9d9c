"""WildChat: chats with GPT models as text, with users and the times of the answers. It knows no exact token counts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workloads.content import text_id
from workloads.sources.chat_messages import messages_of, optional_text, time_us
from workloads.sources.chat_rows import chat_records, has_columns
from workloads.sources.chat_table import Chat
from workloads.sources.chats import chat_tables
from workloads.sources.download import fetch, on_hub
from workloads.sources.json_array import shown
from workloads.sources.json_lines import Record
from workloads.sources.source import ReadOptions, Source, Tally

_SHARDS = [f"data/train-{i:05d}-of-00014.parquet" for i in range(14)]
FILES = on_hub(
    "allenai/WildChat-1M",
    _SHARDS,
    "7d6490e462285cf85d91eabea0f9a954fbddcd1f",
    licence="ODC-BY 1.0",
    sha256={
        _SHARDS[0]: "abec2a13129db8c0e6a2d3a51ff12644873c748205a6fdf6551fbcb34430e51c",
        _SHARDS[1]: "f10fa35bb52703baad5e3177d3382d63b855fce9e9d1b9ab1fe2f0e762464f2a",
    },
)
_COLUMNS = {
    "conversation_hash": (),
    "model": (),
    "timestamp": (),
    "language": (),
    "hashed_ip": (),
    "conversation": ("role", "content", "timestamp", "hashed_ip", "turn_identifier"),
}
_NOTES = (
    "a turn's time is when its answer had arrived whole: sessions start, and turns follow, later than their requests did by the"
    " time of an answer",
    "tenants are the hashed IP addresses, numbered from 1 in order of appearance",
)


def recognises(path: Path) -> bool:
    return has_columns(path, ("conversation_hash", "conversation"))


def read(path: Path, options: ReadOptions, tally: Tally) -> Iterator[Any]:
    """Read WildChat's Parquet shards (-1M, -4.8M), or JSON lines of the same columns, by the rules of `chats`, texts included.

    The card: a conversation's `timestamp` is that of its last turn, an assistant message's the time when its full response was
    received, user messages have none; a `conversation_hash` is no key (equal content, equal hash), the turns' identifiers are.
    A chat without any time is dropped. Raises ValueError "FILE:LINE: …" (Parquet: "FILE: row N: …") on a malformed row.
    """
    tally.notes += _NOTES
    yield from chat_tables(_chats(path, tally), ("user", "assistant"), tally)


def _chats(path: Path, tally: Tally) -> Iterator[Chat]:
    tenants: dict[int, int] = {}
    for record in chat_records(path, _COLUMNS):
        messages = messages_of(record, "conversation", tally)
        times = [time_us(m.get("timestamp"), record.place, f"timestamp of message {i}") for i, m in enumerate(messages, 1)]
        address = _address(record, messages)
        yield Chat(
            record.text("conversation_hash"),
            [m["role"] for m in messages],
            [m["content"] for m in messages],
            key=_key(record, messages, times),
            times_us=times,
            last_us=time_us(record.values.get("timestamp"), record.place, "timestamp"),
            tenant=None if address is None else tenants.setdefault(text_id(address), len(tenants) + 1),
            language=optional_text(record, "language"),
            model=optional_text(record, "model"),
        )


def _key(record: Record, messages: list[dict[str, Any]], times: list[int | None]) -> str:
    """What tells a chat from others of equal content: the first and the last turn's identifier, else when it was."""
    ends = [m.get("turn_identifier") for m in (messages[:1] + messages[-1:])]
    if None in ends:
        ends = [time for time in times if time is not None]
    elif not {int}.issuperset(map(type, ends)):
        raise ValueError(f"{record.place}: turn_identifier is {shown(ends)}; expected whole numbers")
    return "-".join(map(str, [*ends, len(messages)]))


def _address(record: Record, messages: list[dict[str, Any]]) -> str | None:
    """The conversation's hashed IP address, else that of its first message that has one."""
    found = next((m["hashed_ip"] for m in [record.values, *messages] if m.get("hashed_ip") is not None), None)
    if found is None or isinstance(found, str):
        return found
    raise ValueError(f"{record.place}: hashed_ip is {shown(found)}; expected a text")


WILDCHAT = Source(
    name="wildchat",
    about="chats with GPT-3.5 and GPT-4 as text, with users and the times of the answers (by name: WildChat-1M from the hub)",
    licence="ODC-BY 1.0",
    citation="Zhao et al., WildChat: 1M ChatGPT interaction logs in the wild, ICLR 2024 (arXiv 2405.01470)",
    recognises=recognises,
    read=read,
    fetch=lambda: fetch("wildchat", FILES),
    published={"turns_per_session.mean": 2.5},  # "1 million conversations … over 2.5 million turns", toxic ones included
)
