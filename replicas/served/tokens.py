"""What a served replica must know of its model's tokens, and a made-up tokenizer for when there is none. No engine, no HTTP.

Replies are words of letters, so that a client that sends a reply back as text sends the very tokens that were made.
"""

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import xxhash

from replicas.served.made_up import Ids, reply_numbers

Message = dict[str, Any]


class Tokens(Protocol):
    """Text of a reply: `lead` + word of its first token, then a space + word of each other one, all of them plain letters."""

    vocab_size: int
    lead: str

    def encode(self, text: str, specials: bool) -> list[int]:
        """Token ids of a text, with the special tokens that a model's tokenizer adds of its own, or without."""

    def decode(self, ids: Sequence[int]) -> str: ...

    def render(self, messages: list[Message]) -> str:
        """A chat as one text that asks for an answer; ValueError where the template refuses it."""

    def reply(self, seed: int, tokens: int) -> Ids: ...

    def word(self, token_id: int) -> str: ...


_PIECE = re.compile(r" [a-z]{1,4}(?![a-z])|\s?\S{1,4}|\s")
_LETTERS = 26
_SHORT_WORDS = 26 + 26**2 + 26**3  # of at most three letters


class LetterTokens:
    """A tokenizer without a file: " a" is token 0, " b" 1, … " aa" 26, …; all other text is cut into pieces of at most four
    characters, whose ids are hashes. So texts have about as many tokens as with a real one, and replies keep theirs."""

    lead = " "

    def __init__(self, vocab_size: int = 128_256) -> None:
        self.vocab_size = vocab_size
        self._words: dict[int, str] = {}

    def encode(self, text: str, specials: bool) -> list[int]:
        return [self._id(piece) for piece in _PIECE.findall(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(f" {self.word(i)}" for i in ids)

    def render(self, messages: list[Message]) -> str:
        turns = [f"<|{m['role']}|>\n{m['content']}<|end|>\n" for m in messages]
        return "".join((*turns, "<|assistant|>\n"))

    def reply(self, seed: int, tokens: int) -> Ids:
        return reply_numbers(seed, tokens, min(self.vocab_size, _SHORT_WORDS))

    def word(self, token_id: int) -> str:
        word = self._words.get(token_id)
        if word is None:
            word = self._words[token_id] = _word(token_id)
        return word

    def _id(self, piece: str) -> int:
        if piece[0] == " " and piece[1:].isascii() and piece[1:].islower() and piece[1:].isalpha():
            number = 0
            for letter in piece[1:]:
                number = number * _LETTERS + ord(letter) - 96
            if number <= self.vocab_size:
                return number - 1
        return xxhash.xxh32_intdigest(piece.encode(errors="surrogatepass")) % self.vocab_size


def _word(token_id: int) -> str:
    """A number in letters (bijective base 26)."""
    letters, n = "", token_id + 1
    while n:
        n, digit = divmod(n - 1, _LETTERS)
        letters = chr(97 + digit) + letters
    return letters


class FileTokens:
    """A model's own tokenizer. Replies are drawn from `words`, entries that keep their token in any company; `template` renders
    chats (None: the model has none, and a chat is refused)."""

    def __init__(
        self, tokenizer: Any, vocab_size: int, lead: str, words: Sequence[str], ids: Sequence[int], template: Any = None
    ) -> None:
        self.vocab_size, self.lead = vocab_size, lead
        self._tokenizer, self._template = tokenizer, template
        self._ids = np.array(ids, dtype=np.int32)
        self._word_of = dict(zip(ids, words, strict=True))

    def encode(self, text: str, specials: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=specials).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids))
        return text

    def render(self, messages: list[Message]) -> str:
        if self._template is None:
            raise ValueError("this model has no chat template")
        text: str = self._template.render(messages)
        return text

    def reply(self, seed: int, tokens: int) -> Ids:
        ids: Ids = self._ids[reply_numbers(seed, tokens, len(self._ids))]
        return ids

    def word(self, token_id: int) -> str:
        return self._word_of[token_id]
