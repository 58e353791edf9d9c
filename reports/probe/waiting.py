"""How a search waits for its cells: it is written as if every answer were there, and stops where one is not. It runs nothing.

A search is a plain function of the answers known so far. It reads them with `heard`, in the order in which it would ask; the
first that is missing raises `Waiting` with the cells it needs. So a search begun again with more answers goes the same way and
a step further, whatever the order in which they came, and one that does not raise is complete.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from reports.probe.asks import Answer, Ask

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")
Known = Mapping[Ask, Answer]


class Waiting(Exception):
    """The search cannot go on before `asks` are answered."""

    def __init__(self, asks: Iterable[Ask]) -> None:
        self.asks = tuple(asks)
        super().__init__(f"{len(self.asks)} cells are not answered yet")


def heard(known: Known, asks: Sequence[Ask]) -> list[Answer]:
    """The answers to `asks` in their order; raises `Waiting` for those that are missing."""
    if missing := [ask for ask in asks if ask not in known]:
        raise Waiting(missing)
    return [known[ask] for ask in asks]


def together(searches: Iterable[Callable[[], T]]) -> list[T]:
    """The results of searches that do not need each other; raises `Waiting` for all that any of them waits for."""
    results: list[T] = []
    missing: list[Ask] = []
    for search in searches:
        try:
            results.append(search())
        except Waiting as waiting:
            missing += waiting.asks
    if missing:
        raise Waiting(missing)
    return results


def both(one: Callable[[], A], other: Callable[[], B]) -> tuple[A, B]:
    """`together` for two searches of different results."""
    missing: list[Ask] = []
    for search in (one, other):
        try:
            search()
        except Waiting as waiting:
            missing += waiting.asks
    if missing:
        raise Waiting(missing)
    return one(), other()


def so_far(search: Callable[[], T]) -> T | None:
    """A search's result, None where it is not complete."""
    try:
        return search()
    except Waiting:
        return None
