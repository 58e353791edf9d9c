"""Chats as text, and the rules that make turns of them: one set for every source. It does not know any source's format."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from workloads.sources.chat_table import Chat, Paired, chat_table
from workloads.sources.seen_ids import SeenIds
from workloads.sources.source import LONGEST_GAP_US, Tally, count_reason
from workloads.tokens import ESTIMATOR

_BATCH_CHARACTERS = 16 << 20
_BATCH_CHATS = 10_000
_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard"), "model"),
    "system": "system",
}


@dataclass(slots=True)
class _Rules:
    """What a source calls its two roles, and the chats seen so far."""

    usual: tuple[str, str]
    seen: SeenIds
    named: SeenIds


def chat_tables(chats: Iterable[Chat], usual: tuple[str, str], tally: Tally) -> Iterator[Any]:
    """Tables of the trace's schema, texts included, a table for every 16 Mi characters; rows are counted in the tally.

    Dropped are empty chats, repeated ids, chats with an unknown role, and chats without a question and its answer. Changed are
    chats that start with the model (its first messages go), that end with an unanswered question (it goes), with several
    messages of one role in a row (joined by a blank line), with role names other than the `usual` (user, model) of the source,
    or with half characters (they become `?`). System messages open the conversation as its shared prefix. Equal messages are
    equal content; token counts are estimated.
    """
    tally.token_counts = ESTIMATOR
    tally.notes.append("equal messages are equal content; messages that only begin alike share nothing")
    rules = _Rules(usual, SeenIds(), SeenIds())
    for batch in _batches(chats):
        tally.rows_read += len(batch)
        kept = [paired for chat in _fresh(batch, rules, tally) if (paired := _paired(chat, usual, tally))]
        if kept:
            yield chat_table(kept)


def _batches(chats: Iterable[Chat]) -> Iterator[list[Chat]]:
    batch: list[Chat] = []
    characters = 0
    for chat in chats:
        batch.append(chat)
        characters += sum(map(len, chat.texts))
        if characters >= _BATCH_CHARACTERS or len(batch) == _BATCH_CHATS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _fresh(batch: list[Chat], rules: _Rules, tally: Tally) -> list[Chat]:
    """The chats whose key is new; one that only shares its name with an earlier one gets its key into its name."""
    again = rules.seen.add([f"{chat.name}-{chat.key}" if chat.key else chat.name for chat in batch])
    tally.dropped.update({"repeated id": sum(again)} if any(again) else {})
    fresh = [chat for chat, repeated in zip(batch, again, strict=True) if not repeated]
    keyed = [chat for chat in fresh if chat.key]
    for chat, shared in zip(keyed, rules.named.add([chat.name for chat in keyed]), strict=True):
        if shared:
            chat.name = f"{chat.name}-{chat.key}"
            tally.changed["hash of an earlier chat, other turns: named by both"] += 1
    return fresh


def _paired(chat: Chat, usual: tuple[str, str], tally: Tally) -> Paired | None:
    """The chat as question-answer pairs, or None when a rule drops it."""
    count = len(chat.roles)
    notes: set[str] = set()
    if not all(map(str.isascii, chat.texts)):
        _make_whole(chat, notes)
    times = chat.times_us
    if count and chat.roles == [*usual] * (count // 2):
        paired = Paired(chat, None, chat.texts[0::2], chat.texts[1::2])
        answered = times and times[1::2]
    else:
        messages = _checked(chat, usual, tally.dropped, notes)
        if messages is None:
            return None
        system = "\n\n".join(text for role, text, _ in messages if role == "system") or None
        joined = _joined([m for m in messages if m[0] != "system"], notes)
        if not joined:
            tally.dropped["no question with an answer"] += 1
            return None
        questions, answers = [text for _, text, _ in joined[0::2]], [text for _, text, _ in joined[1::2]]
        paired = Paired(chat, system, questions, answers)
        answered = times and [time for _, _, time in joined[1::2]]
    if answered and not _timed(paired, answered, notes):
        tally.dropped["no time"] += 1
        return None
    tally.changed.update(notes)
    return paired


def _timed(paired: Paired, answered: list[int | None], notes: set[str]) -> bool:
    """Put the chat on its clock: it starts at its first answer, and turns are as far apart as their answers."""
    if answered[0] is None:
        notes.add("first answer has no time: starts when the chat was last logged")
    paired.start_us = paired.chat.last_us if answered[0] is None else answered[0]
    gaps = [None if a is None or b is None else b - a for a, b in pairwise(answered)]
    if any(gap is not None and gap < 0 for gap in gaps):
        notes.add("answers out of time order: their gaps unknown")
    if any(gap is not None and gap > LONGEST_GAP_US for gap in gaps):
        notes.add("answers more than 285 years apart: their gaps unknown")
    paired.gaps_us = [None, *(gap if gap is not None and 0 <= gap <= LONGEST_GAP_US else None for gap in gaps)]
    return paired.start_us is not None


_Messages = list[tuple[str, str, int | None]]  # (user, model or system; text; time)


def _checked(chat: Chat, usual: tuple[str, str], dropped: Counter[str], notes: set[str]) -> _Messages | None:
    if not chat.roles:
        dropped["empty conversation"] += 1
        return None
    for role in chat.roles:
        if role not in _ROLES:
            count_reason(dropped, f"unknown role {whole(role[:20])!r}", "unknown role")
            return None
    if not {*usual, "system"}.issuperset(chat.roles):
        notes.add(f"unusual role names read as {usual[0]} or {usual[1]}")
    times = chat.times_us or [None] * len(chat.roles)
    return [(_ROLES[role], text, time) for role, text, time in zip(chat.roles, chat.texts, times, strict=True)]


def _joined(messages: _Messages, notes: set[str]) -> _Messages:
    """Messages that alternate, from a question to an answer."""
    joined: _Messages = []
    for role, text, time in messages:
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]}\n\n{text}", time)
            notes.add("messages of one role in a row joined")
        else:
            joined.append((role, text, time))
    if joined and joined[0][0] == "model":
        del joined[0]
        notes.add("started with the model: its first messages removed")
    if joined and joined[-1][0] == "user":
        del joined[-1]
        notes.add("ended with an unanswered question: removed")
    return joined


def _make_whole(chat: Chat, notes: set[str]) -> None:
    texts = [text if text.isascii() else whole(text) for text in chat.texts]
    if texts != chat.texts:
        chat.texts = texts
        notes.add("half characters (lone surrogates) replaced")


def whole(text: str) -> str:
    """The text as UTF-8 can hold it: JSON may spell half characters (lone surrogates), which become `?`."""
    return text.encode("utf-8", "replace").decode()
