"""The router's own nouns: one try at a replica, how a request ended, and what a driver must do. No I/O, no rules."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from routers.policy import Decision, RoutedRequest

Stage = Literal["serve", "prefill", "decode", "pair"]

# Output length is unknown to a router; it counts this many tokens, or `max_tokens` where that is less (SMG's default).
EXPECTED_OUTPUT_TOKENS = 1024


class Flight:
    """One request inside the router, from `on_request` until it is answered, refused or hung up."""

    __slots__ = ("decision", "exclude", "held_at", "last", "live", "request", "router_try", "streaming", "timer")

    def __init__(self, request: RoutedRequest) -> None:
        self.request = request
        self.router_try = 0
        self.decision: Decision | None = None
        self.live: Try | None = None
        self.last: Try | None = None
        self.exclude: frozenset[int] = frozenset()
        self.held_at = -1  # index of the guard that holds it
        self.timer = 0  # number of the retry timer it waits for
        self.streaming = False


@dataclass(slots=True, eq=False)
class Try:
    """One request sent to one replica. A PD pair is two tries (`prefill`, then `decode`) of one `router_try` (1, 2, …).

    `tokens` is what it adds to the replica's `in_flight_tokens`: the prompt, and except for a prefill the expected output.
    A `pair` is sent to both replicas at once, and ends at the decode replica; `prefilling` while the other one counts it too.
    """

    try_id: int
    request: RoutedRequest
    decision: Decision
    replica_id: int
    stage: Stage
    router_try: int
    tokens: int
    flight: Flight = field(repr=False)
    prefilling: bool = False


@dataclass(slots=True)
class RequestEnd:
    """The final answer to the client; `last_try` is None when it never reached a replica.

    `refused_by`: the place of the guard that refused it.
    """

    ok: bool
    status: int
    error: str
    last_try: Try | None
    refused_by: int | None = None


class Effects(Protocol):
    """What the driver does for the router. A call may lead to a router input at once (before it returns).

    One that has `orphan(try_id, now_s)` is told of tries that were given up but not aborted.
    """

    def send(self, attempt: Try, now_s: float) -> None: ...

    def abort(self, try_id: int, now_s: float) -> None: ...

    def probe(self, replica_id: int, now_s: float) -> None: ...

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None: ...
