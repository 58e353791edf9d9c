"""ShareGPT: a JSON array of chats between people and models, as text. It knows no times, no users and no exact token counts."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.content import text_id
from workloads.conversation import Conversation, Trace, Turn
from workloads.request import Segment
from workloads.sources.download import hub_file
from workloads.sources.source import Source, file_sha256, first_text
from workloads.tokens import ESTIMATOR, estimate_tokens

REPO = "anon8231489123/ShareGPT_Vicuna_unfiltered"
FILE = "ShareGPT_V3_unfiltered_cleaned_split.json"
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "model"),
    "system": "system",
}
_USUAL = ("human", "gpt", "system")


@dataclass(slots=True)
class _Chat:
    """A record after the rules: the system prompt and (user text, reply text) pairs."""

    name: str
    system: str | None
    pairs: list[tuple[str, str]]


def recognises(path: Path) -> bool:
    head = first_text(path)
    return head.lstrip().startswith("[") and '"conversations"' in head


def load(path: Path, seed: int = 0) -> Trace:
    """Read [{id, conversations: [{from, value}]}]. Equal messages are equal content; token counts are estimated.

    Rules, each counted: dropped are empty chats, repeated ids, chats with an unknown role, and chats without a question and its
    answer; changed are chats that start with the model (its first messages go), that end with an unanswered question (it
    goes), with several messages of one role in a row (joined by a blank line), or with unusual role names (user, bing, …).
    Raises ValueError "FILE: record N: …" on a malformed record, "FILE:LINE: …" when the JSON itself is broken or cut.
    """
    records = _records(path)
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    seen: set[str] = set()
    chats = []
    for number, record in enumerate(records, 1):
        name, messages = _checked(path, number, record)
        if name in seen:
            dropped["repeated id"] += 1
            continue
        seen.add(name)
        chat = _chat(name, messages, dropped, changed)
        if chat:
            chats.append(chat)
    return Trace(
        SHAREGPT.name,
        _conversations(chats),
        {
            "source": SHAREGPT.name,
            "licence": SHAREGPT.licence,
            "citation": SHAREGPT.citation,
            "file": path.name,
            "sha256": file_sha256(path),
            "rows_read": len(records),
            "rows_dropped": dict(sorted(dropped.items())),
            "rows_changed": dict(sorted(changed.items())),
            "token_counts": ESTIMATOR,
            "synthetic": False,
            "has_timestamps": False,
            "has_sessions": True,
            "notes": ["equal messages are equal content; messages that only begin alike share nothing"],
        },
    )


def _records(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        whole = "; the file looks cut off" if error.pos >= len(error.doc.rstrip()) - 1 or "Unterminated" in error.msg else ""
        raise ValueError(f"{path}:{error.lineno}: broken JSON at column {error.colno}: {error.msg}{whole}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}; the file looks cut off or is no ShareGPT JSON") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of thousands of digits
        raise ValueError(f"{path}: no ShareGPT JSON: {error}") from error
    if not isinstance(records, list):
        raise ValueError(f"{path}: expected a JSON array of records, found {type(records).__name__}")
    return records


def _checked(path: Path, number: int, record: Any) -> tuple[str, list[tuple[str, str]]]:
    """The id and the (role, text) messages of a record of the right shape."""
    where = f"{path}: record {number}"
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise ValueError(f"{where}: expected an object with a text 'id', found {str(record)[:60]!r}")
    messages = record.get("conversations")
    if not isinstance(messages, list):
        raise ValueError(f"{where} ({record['id']}): 'conversations' is {str(messages)[:60]!r}; expected a list of messages")
    for i, message in enumerate(messages, 1):
        if not (isinstance(message, dict) and isinstance(message.get("from"), str) and isinstance(message.get("value"), str)):
            raise ValueError(
                f"{where} ({record['id']}): message {i} is {str(message)[:60]!r}; expected {{'from': text, 'value': text}}"
            )
    return _whole(record["id"]), [(m["from"], m["value"]) for m in messages]


def _whole(text: str) -> str:
    """The text as UTF-8 can hold it: JSON may spell half characters (lone surrogates), which become `?`."""
    return text.encode("utf-8", "replace").decode()


def _chat(name: str, messages: list[tuple[str, str]], dropped: Counter[str], changed: Counter[str]) -> _Chat | None:
    """The record as question-answer pairs, or None when a rule drops it."""
    if not messages:
        dropped["empty conversation"] += 1
        return None
    unknown = next((role for role, _ in messages if role not in _ROLES), None)
    if unknown is not None:
        dropped[f"unknown role {_whole(unknown[:20])!r}"] += 1
        return None
    notes = set()
    if any(role not in _USUAL for role, _ in messages):
        notes.add("unusual role names read as human or gpt")
    whole = [(role, _whole(text)) for role, text in messages]
    if whole != messages:
        notes.add("half characters (lone surrogates) replaced")
        messages = whole
    system = "\n\n".join(text for role, text in messages if role == "system") or None
    joined: list[tuple[str, str]] = []
    for role, text in ((_ROLES[r], t) for r, t in messages if _ROLES[r] != "system"):
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]}\n\n{text}")
            notes.add("messages of one role in a row joined")
        else:
            joined.append((role, text))
    if joined and joined[0][0] == "model":
        del joined[0]
        notes.add("started with the model: its first messages removed")
    if joined and joined[-1][0] == "user":
        del joined[-1]
        notes.add("ended with an unanswered question: removed")
    if not joined:
        dropped["no question with an answer"] += 1
        return None
    changed.update(notes)
    return _Chat(name, system, [(joined[i][1], joined[i + 1][1]) for i in range(0, len(joined), 2)])


def _conversations(chats: list[_Chat]) -> tuple[Conversation, ...]:
    texts = [t for c in chats for t in ([c.system or ""] + [t for pair in c.pairs for t in pair])]
    counts = iter(estimate_tokens(texts).tolist())
    made = []
    for chat in chats:
        system_tokens = next(counts)
        turns = tuple(_turn(user, reply, next(counts), next(counts)) for user, reply in chat.pairs)
        prefix = (Segment(text_id(chat.system), system_tokens),) if chat.system else ()
        made.append(Conversation(chat.name, turns, prefix=prefix, prefix_text=chat.system))
    return tuple(made)


def _turn(user: str, reply: str, user_tokens: int, reply_tokens: int) -> Turn:
    segments = (Segment(text_id(user), user_tokens),) if user else None
    return Turn(user_tokens, reply_tokens, segments, user_text=user, reply_text=reply)


SHAREGPT = Source(
    name="sharegpt",
    about="94,145 multi-turn chats that users shared, as text, no times (by name: from the Hugging Face hub)",
    licence="apache-2.0 as tagged on the hub, unverified; users' shared chats: research only",
    citation=f"Hugging Face data set {REPO}",
    recognises=recognises,
    load=load,
    fetch=lambda: hub_file("sharegpt", REPO, FILE),
)
