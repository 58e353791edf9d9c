"""Content ids: which tokens of two prompts are the same. It does not know times or rates."""

_MASK64 = (1 << 64) - 1
_MASK63 = (1 << 63) - 1
USER, REPLY, AGAIN, PARTIAL_BLOCK, SYSTEM_PROMPT, LONG_PROMPT = 1, 2, 3, 4, 5, 6
"""Kinds of content. A user turn known by length only is (USER, place, turn, pass), a reply (REPLY, place, turn, pass), content of
the trace in a later pass (AGAIN, its id, pass)."""


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
