"""Content ids and prompts: which tokens of two prompts are the same. It does not know times or rates."""

from collections.abc import Iterator
from itertools import islice

from workloads.conversation import Conversation
from workloads.request import Segment

_MASK64 = (1 << 64) - 1
_MASK63 = (1 << 63) - 1
_USER, _REPLY, _AGAIN, PARTIAL_BLOCK, SYSTEM_PROMPT = 1, 2, 3, 4, 5


def content_id(kind: int, *parts: int) -> int:
    """A 63-bit id of a kind of content and its coordinates (chained SplitMix64 finalisers): the same on every machine."""
    x = kind
    for part in parts:
        x = (x + part + 0x9E3779B97F4A7C15) & _MASK64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK64
        x ^= x >> 31
    return x & _MASK63


def text_id(text: str) -> int:
    """The content id of a text: equal texts are equal content."""
    import xxhash

    return xxhash.xxh3_64_intdigest(text.encode()) & _MASK63


def user_segments(conversation: Conversation, index: int, turn: int, reuse: int) -> tuple[Segment, ...]:
    """The new user content of one turn, at least one token, when the trace is used for the `reuse`-th time (0 = as it is).

    `index` is the conversation's place in its trace. In another pass every id changes, consistently: conversations that
    share blocks still share them inside the pass, and share none with other passes.
    """
    made = conversation.turns[turn]
    if not made.segments or not made.user_tokens:
        return (Segment(content_id(_USER, index, turn, reuse), max(1, made.user_tokens)),)
    if reuse == 0:
        return made.segments
    return tuple(Segment(content_id(_AGAIN, s.content_id, reuse), s.tokens) for s in made.segments)


def prompts(conversation: Conversation, index: int, reuse: int = 0) -> Iterator[tuple[tuple[Segment, ...], int, int]]:
    """(prompt segments, reply_id, output tokens) of each turn: prefix, earlier turns with their replies, new user content.

    The prefix keeps its ids in every pass: it is what sessions share. Reply ids are unique to (conversation, turn, pass).
    """
    history = conversation.prefix
    for turn, made in enumerate(conversation.turns):
        segments = (*history, *user_segments(conversation, index, turn, reuse))
        reply_id = content_id(_REPLY, index, turn, reuse)
        reply_tokens = max(1, made.reply_tokens)
        yield segments, reply_id, reply_tokens
        history = (*segments, Segment(reply_id, reply_tokens))


def prompts_between(
    conversation: Conversation, index: int, reuse: int, first: int, stop: int
) -> Iterator[tuple[tuple[Segment, ...], int, int]]:
    """The prompts of turns first … stop−1."""
    return islice(prompts(conversation, index, reuse), first, stop)
