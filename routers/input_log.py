"""Every input that a router got, in order, and feeding them to another router. It knows no clock, no file and no rule.

What a router decides is a function of its inputs: two of them built alike and fed one log decide alike, whoever wrote it.
An effect may lead to inputs before it returns (a refusal inside `send`), so an entry knows how deep inside others it came.
"""

from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, NamedTuple

from replicas.view import ReplicaView
from routers.router import Router
from routers.tries import RequestEnd, Try

INPUTS = (
    "on_request",
    "on_first_token",
    "on_try_end",
    "on_prefilled",
    "on_cancel",
    "on_observation",
    "on_probe",
    "on_kv_event",
    "set_healthy",
    "add",
    "remove",
    "on_wake",
)


class Input(NamedTuple):
    """One call of a router: `name` (one of INPUTS), its positional arguments, and how many other calls it is inside."""

    name: str
    arguments: tuple[Any, ...]
    depth: int


class Recording:
    """Stands in a driver where the router does, and writes down what it is told; everything else it leaves to the router."""

    def __init__(self, router: Router, log: list[Input]) -> None:
        self._router, self._log, self._depth = router, log, 0
        for name in INPUTS:
            setattr(self, name, self._recorded(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    def _recorded(self, name: str) -> Any:
        call = getattr(self._router, name)

        def told(*arguments: Any, **named: Any) -> None:
            if named:
                bound = signature(call).bind(*arguments, **named)
                bound.apply_defaults()
                arguments = bound.args
            self._log.append(Input(name, tuple(map(_kept, arguments)), self._depth))
            self._depth += 1
            try:
                call(*arguments)
            finally:
                self._depth -= 1

        return told


def _kept(argument: Any) -> Any:
    """A router writes to the view of a replica that joins: each has its own, as it was then."""
    return replace(argument) if isinstance(argument, ReplicaView) else argument


class Refeed:
    """The effects of a router that lives a log again: it sends nothing, and what came inside an effect comes there again."""

    def __init__(self, log: Sequence[Input]) -> None:
        self._log, self._at, self._depth = log, 0, -1
        self.sent: list[Try] = []
        self.answered: list[tuple[int, RequestEnd]] = []
        self._router: Router | None = None

    def run(self, router: Router) -> None:
        """Feeds the whole log to `router`, which was built with this object as its effects."""
        self._router = router
        self._feed()

    def _feed(self) -> None:
        depth = self._depth
        while self._at < len(self._log) and self._log[self._at].depth > depth:
            entry = self._log[self._at]
            self._at += 1
            self._depth = entry.depth
            getattr(self._router, entry.name)(*map(_kept, entry.arguments))
            self._depth = depth

    def send(self, attempt: Try, now_s: float) -> None:
        self.sent.append(attempt)
        self._feed()

    def abort(self, try_id: int, now_s: float) -> None:
        self._feed()

    def orphan(self, try_id: int, now_s: float) -> None:
        self._feed()

    def probe(self, replica_id: int, now_s: float) -> None:
        self._feed()

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        self.answered.append((rid, end))
        self._feed()
