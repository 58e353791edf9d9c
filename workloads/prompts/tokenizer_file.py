"""`tokenizer.json`: opens the file that a model's tokenizer lies in. It does not know what will be encoded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_path(path: Path) -> Path:
    """The tokenizer's file: `path` itself, or `tokenizer.json` in the model's folder `path`."""
    return path / "tokenizer.json" if path.is_dir() else path


def load_tokenizer(path: Path) -> "Tokenizer":
    """The tokenizer of a `tokenizer.json` or of a model's folder, without the truncation and padding that a file may ask for.

    Raises ValueError in one line when there is no such file or it holds none.
    """
    from tokenizers import Tokenizer

    file = tokenizer_path(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; a tokenizer is a tokenizer.json or a folder that holds one")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises the bare class
        raise ValueError(f"{file}: not a tokenizer.json: {one_line(error)}") from error
    return plain(tokenizer)


def plain(tokenizer: "Tokenizer") -> "Tokenizer":
    """The same tokenizer, without truncation and padding: a prompt is counted whole."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def unknown_ids(tokenizer: "Tokenizer") -> set[int]:
    """The id of the model's unknown token, if it has one, which need not be among the added tokens."""
    model = tokenizer.model
    if hasattr(model, "unk_token"):
        found = tokenizer.token_to_id(model.unk_token or "")
    else:  # a Unigram model tells its `unk_id` only in its serialised form
        found = json.loads(model.__getstate__()).get("unk_id")
    return set() if found is None else {found}


def one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__
