"""How a study's mistake is told: its key path, the value, what is allowed. It knows no key of its own."""

import difflib
from collections.abc import Iterable

from flows.study import Pool, Study

KeyPath = tuple[str | int, ...]
Problem = tuple[KeyPath, object, str]
"""A key path, the value there, and what is allowed instead."""


def pool_paths(study: Study) -> list[tuple[KeyPath, Pool]]:
    """Each pool and its key path."""
    if isinstance(study.pool, list):
        return [(("pool", i), pool) for i, pool in enumerate(study.pool)]
    return [(("pool",), study.pool)]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())
