"""How segments become the bytes of a JSON prompt: token ids, or words of a tokenizer. It knows no request.

A segment's bytes are the same in every prompt, so those used lately are kept (a system prompt, a session's history).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from workloads.prompts.token_ids import segment_ids
from workloads.prompts.vocabulary import Vocabulary
from workloads.prompts.words import Words, segment_text
from workloads.request import Segment

_KEPT_BYTES = 64 << 20


class Writing(Protocol):
    """Makes the bytes of segments and puts them together."""

    def whole(self, pieces: list[bytes]) -> bytes:
        """The JSON of a prompt."""

    def piece(self, segment: Segment) -> bytes: ...

    def reply(self, segment: Segment, token_ids: list[int], text: str) -> bytes | None:
        """What an engine said, as later prompts repeat it; None where that is not known or not usable."""


class IdsWriting:
    """Prompts as lists of token ids. A reply that is shorter than the plan's goes on as the plan's, as in virtual time."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._digits = [b"%d" % i for i in range(vocabulary.size)]

    def whole(self, pieces: list[bytes]) -> bytes:
        return b"[%b]" % b",".join(pieces)

    def piece(self, segment: Segment) -> bytes:
        return b",".join(map(self._digits.__getitem__, segment_ids(segment, self._vocabulary).tolist()))

    def reply(self, segment: Segment, token_ids: list[int], text: str) -> bytes | None:
        if not token_ids or len(token_ids) > segment.tokens:
            return None
        missing = segment_ids(segment, self._vocabulary)[len(token_ids) :].tolist()
        return b",".join([b"%d" % i for i in (*token_ids, *missing)])


class TextWriting:
    """Prompts as text of stable words, each a token, with a space before each; a reply is repeated as the engine wrote it."""

    def __init__(self, words: Words) -> None:
        self._words = words

    def whole(self, pieces: list[bytes]) -> bytes:
        text = b"".join(pieces)
        return b'"%b"' % (text if self._words.lead else text.removeprefix(b" "))

    def piece(self, segment: Segment) -> bytes:
        return _inside_json(" " + segment_text(segment, self._words))

    def reply(self, segment: Segment, token_ids: list[int], text: str) -> bytes | None:
        return _inside_json(text) if text else None


class Pieces:
    """Bytes of segments, made once as long as they are used: `whole` writes a prompt."""

    def __init__(self, writing: Writing, kept_bytes: int = _KEPT_BYTES) -> None:
        self._writing, self._room = writing, kept_bytes
        self._kept: dict[tuple[int, int], bytes] = {}  # the latest last
        self._replies: dict[int, bytes] = {}

    def whole(self, segments: Sequence[Segment]) -> bytes:
        """The JSON of a prompt."""
        return self._writing.whole([self._piece(s) for s in segments if s.tokens])

    def keep_reply(self, segment: Segment, token_ids: list[int], text: str) -> bool:
        """Remember what an engine said; False where later prompts cannot repeat it."""
        reply = self._writing.reply(segment, token_ids, text)
        if reply is not None:
            self._replies[segment.content_id] = reply
        return reply is not None

    def forget_replies(self, content_ids: Sequence[int]) -> None:
        """Their session is over."""
        for content_id in content_ids:
            self._replies.pop(content_id, None)

    def _piece(self, segment: Segment) -> bytes:
        reply = self._replies.get(segment.content_id)
        if reply is not None:
            return reply
        key = segment.content_id, segment.tokens
        piece = self._kept.pop(key, None)
        if piece is None:
            piece = self._writing.piece(segment)
            self._room -= len(piece)
            while self._room < 0 and self._kept:
                self._room += len(self._kept.pop(next(iter(self._kept))))
        self._kept[key] = piece
        return piece


def writing_of(prompt: str, vocabulary_size: int, tokenizer: str) -> Writing:
    """`ids` or `text`; ValueError where the tokenizer cannot be read or has too few stable words."""
    if prompt == "text":
        return TextWriting(Words.of_file(Path(tokenizer)))
    return IdsWriting(Vocabulary.of_file(Path(tokenizer)) if tokenizer else Vocabulary.of_size(vocabulary_size))


def _inside_json(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "replace")
