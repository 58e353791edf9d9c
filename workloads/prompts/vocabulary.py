"""Which token ids a prompt may hold, for one engine's model. It does not know what they mean, nor any text."""

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from workloads.prompts.tokenizer_file import load_tokenizer, tokenizer_path, unknown_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FEWEST_IDS = 2
_MOST_IDS = 1 << 31
_PLACEHOLDER = re.compile(r"<0x[0-9A-F]{2}>|[<\[].*(?:unused|reserved).*[>\]]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The ids 0 … size−1 that the engine accepts, and those `usable` in made-up prompts (int32, ascending, read-only).

    `size` is the model's embedding, which may be larger or smaller than its tokenizer's vocabulary. Raises ValueError where
    fewer than 2 ids are usable.
    """

    name: str
    size: int
    usable: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        if len(self.usable) < FEWEST_IDS:
            raise ValueError(f"{self.name}: {len(self.usable)} usable token ids below {self.size}; at least {FEWEST_IDS} needed")
        self.usable.setflags(write=False)

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the usable ids in order: vocabularies with equal hashes give equal prompts."""
        return hashlib.sha256(self.usable.astype("<i4").tobytes()).hexdigest()

    @staticmethod
    def of_size(size: int, reserved: Collection[int] = ()) -> "Vocabulary":
        """For an engine without a tokenizer (dummy weights): every id below `size` but the `reserved` ones."""
        ids = np.arange(_checked_size("vocabulary", size), dtype=np.int32)
        return Vocabulary(f"vocabulary of {size}", size, ids[~np.isin(ids, np.array(sorted(reserved), dtype=np.int64))])

    @staticmethod
    def of_file(path: Path, vocab_size: int | None = None) -> "Vocabulary":
        """From a `tokenizer.json` or a folder that holds one; `vocab_size` is the model's own (see `of_tokenizer`)."""
        return Vocabulary.of_tokenizer(load_tokenizer(path), str(tokenizer_path(path)), vocab_size)

    @staticmethod
    def of_tokenizer(tokenizer: "Tokenizer", name: str, vocab_size: int | None = None) -> "Vocabulary":
        """From an open tokenizer; `vocab_size` is the rows of the model's embedding, by default all ids of the tokenizer.

        Usable are the ids that are no added token (specials are), no placeholder (bytes, unused, reserved), not the unknown
        token, and that alone decode to text without control characters or broken UTF-8.
        """
        vocabulary = tokenizer.get_vocab()
        size = max(vocabulary.values(), default=-1) + 1
        size = size if vocab_size is None else _checked_size(f"{name}: vocab_size", vocab_size)
        barred = set(tokenizer.get_added_tokens_decoder()) | unknown_ids(tokenizer)
        ids = sorted(i for token, i in vocabulary.items() if i < size and i not in barred and not _PLACEHOLDER.fullmatch(token))
        usable = [i for i in ids if _is_plain(tokenizer.decode([i]))]
        return Vocabulary(name, size, np.array(usable, dtype=np.int32))


def _is_plain(text: str) -> bool:
    return bool(text) and not _CONTROL.search(text)


def _checked_size(what: str, size: int) -> int:
    if not 1 <= size < _MOST_IDS:
        raise ValueError(f"{what}: {size} ids; 1 … {_MOST_IDS - 1} allowed")
    return size
