"""From segments to text that a tokenizer encodes to exactly their tokens. It does not know chats; the text means nothing.

A text is a series of *stable words*: vocabulary entries of letters that stand for one token wherever they appear in such a
text. So a text's tokens are its words', one for one, and the tokens of a prefix are a prefix of the tokens of the whole.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workloads.prompts.token_ids import draw
from workloads.prompts.tokenizer_file import load_tokenizer, plain, tokenizer_path
from workloads.prompts.vocabulary import Vocabulary
from workloads.request import Segment

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FEWEST_WORDS = 64  # so two contents agree in their first 16 tokens with probability 2⁻⁹⁶ at most
MOST_WORDS = 4096
_RUN = 64  # words are tried together in random runs of so many,
_CLEAN_ROUNDS, _MOST_ROUNDS = 3, 40  # until all of them keep their tokens in so many rounds in a row; or else none is trusted
_WORD = re.compile(r"(?P<begins>Ġ|▁)?(?P<letters>[A-Za-z]+)(?P<ends></w>)?")


@dataclass(frozen=True, eq=False)
class Words:
    """The stable words of one tokenizer, `words[i]` being the token `ids[i]`.

    `lead` goes before a text's first word, a space before every other one. `specials` is how many tokens an engine adds to a
    text of its own (a BOS, an EOS); no count here includes them.
    """

    name: str
    tokenizer: "Tokenizer"
    lead: str
    words: tuple[str, ...]
    ids: npt.NDArray[np.int32]

    @property
    def specials(self) -> int:
        return self.tokenizer.num_special_tokens_to_add(False)

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of lead and words: equal hashes give equal texts."""
        return hashlib.sha256("\n".join((self.lead, *self.words)).encode()).hexdigest()

    @staticmethod
    def of_file(path: Path, vocab_size: int | None = None) -> "Words":
        """From a `tokenizer.json` or a folder that holds one; `vocab_size` is the model's, where it is below the tokenizer's."""
        return Words.of_tokenizer(load_tokenizer(path), str(tokenizer_path(path)), vocab_size)

    @staticmethod
    def of_tokenizer(tokenizer: "Tokenizer", name: str, vocab_size: int | None = None) -> "Words":
        """The words of an open tokenizer, tried before they are trusted; ValueError where fewer than 64 are stable."""
        vocabulary = Vocabulary.of_tokenizer(plain(tokenizer), name, vocab_size)
        candidates = _candidates(tokenizer, vocabulary)
        for lead in ("", " "):
            stable = _stable(tokenizer, lead, candidates)
            if len(stable) >= FEWEST_WORDS:
                words, ids = zip(*stable, strict=True)
                return Words(name, tokenizer, lead, words, np.array(ids, dtype=np.int32))
        raise ValueError(
            f"{name}: fewer than {FEWEST_WORDS} of its {len(candidates)} words of letters are one token in every place; "
            f"send token ids to this model instead of text"
        )


def segment_text(segment: Segment, words: Words) -> str:
    """The `segment.tokens` words of one content, one space between them; a longer segment of the same content begins alike."""
    return " ".join(words.words[i] for i in _drawn(segment, words))


def prompt_text(segments: Sequence[Segment], words: Words) -> str:
    """The text of a whole prompt; encoded without special tokens it has Σ tokens, those of its prefixes first.

    Raises ValueError, naming the tokenizer, when encoding the text proves that wrong.
    """
    drawn = [i for segment in segments for i in _drawn(segment, words)]
    text = words.lead * bool(drawn) + " ".join(words.words[i] for i in drawn)
    found = words.tokenizer.encode(text, add_special_tokens=False).ids
    if found != words.ids[drawn].tolist():
        raise ValueError(f"{words.name}: a text of {len(drawn)} words is encoded to {len(found)} tokens, or not word by word")
    return text


def _drawn(segment: Segment, words: Words) -> list[int]:
    """Indices of the words of one content."""
    made = np.empty(segment.tokens, dtype=np.int32)
    draw(segment.content_id, np.arange(len(words.words), dtype=np.int32), made)
    return made.tolist()


Word = tuple[str, int]


def _candidates(tokenizer: "Tokenizer", vocabulary: Vocabulary) -> list[Word]:
    """(word, id) in order of id: entries of letters with a word-boundary mark; bare ones where the vocabulary knows no marks."""
    marked: list[Word] = []
    bare: list[Word] = []
    for token_id in vocabulary.usable.tolist():
        found = _WORD.fullmatch(tokenizer.id_to_token(token_id) or "")
        if found:
            (marked if found["begins"] or found["ends"] else bare).append((found["letters"], token_id))
    return marked or bare


def _stable(tokenizer: "Tokenizer", lead: str, candidates: Iterable[Word]) -> list[Word]:
    """The words that keep their token at the start, after themselves, and in random company; in order of id."""
    alone = (word for word in candidates if _keeps(tokenizer, lead, [word]) and _keeps(tokenizer, lead, [word, word]))
    stable = list(islice(alone, MOST_WORDS))
    shuffle = np.random.Generator(np.random.PCG64(0))
    clean = 0
    for _ in range(_MOST_ROUNDS):
        mixed = [stable[i] for i in shuffle.permutation(len(stable)).tolist()]
        runs = [mixed[start : start + _RUN] for start in range(0, len(mixed), _RUN)]
        kept = sorted((word for run in runs for word in _kept(tokenizer, lead, run)), key=lambda word: word[1])
        clean = clean + 1 if len(kept) == len(stable) else 0
        stable = kept
        if clean == _CLEAN_ROUNDS:
            return stable
    return []


def _kept(tokenizer: "Tokenizer", lead: str, run: list[Word]) -> list[Word]:
    """The run without its pairs of neighbours that are not encoded word by word, found by halving."""
    if _keeps(tokenizer, lead, run):
        return run
    if len(run) <= 2:
        return []
    half = len(run) // 2
    return _kept(tokenizer, lead, run[:half]) + _kept(tokenizer, lead, run[half:])


def _keeps(tokenizer: "Tokenizer", lead: str, run: Sequence[Word]) -> bool:
    text = lead + " ".join(word for word, _ in run)
    return tokenizer.encode(text, add_special_tokens=False).ids == [token_id for _, token_id in run]
