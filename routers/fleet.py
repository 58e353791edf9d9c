"""Several routers side by side before one pool: each sees its share of the requests and its own counts, nothing of the others'.

A fleet takes the inputs of a `Router` and hands each to the member it belongs to. It does not route and shares no state.
"""

from collections.abc import Callable
from functools import partial

from routers.policy import RoutedRequest
from routers.router import Router
from routers.tries import Effects, RequestEnd
from workloads.draws import purpose_id, uniform

_BALANCER = purpose_id("router-fleet-balancer")

Probe = Callable[[int, int, float], None]
"""(number of the router that asks, replica_id, now_s): its answer goes to that router alone."""


class RouterFleet:
    """`of` routers, member i made by `build(its effects, i, of)` (a router made so numbers its tries in steps of `of`).

    A balancer without memory stands before them: each client attempt goes to a member drawn by (seed, request, attempt).
    Observations and KV events are given to a member, not to the fleet: every router polls for itself.
    """

    def __init__(self, build: Callable[[Effects, int, int], Router], of: int, effects: Effects, probe: Probe, seed: int) -> None:
        self._seed = seed
        self._inside: dict[int, Router] = {}  # rid → the router it was given to
        self.members = tuple(build(_MemberEffects(self._inside, effects, partial(probe, i)), i, of) for i in range(of))

    @property
    def open_requests(self) -> int:
        return sum(m.open_requests for m in self.members)

    @property
    def held_requests(self) -> int:
        return sum(m.held_requests for m in self.members)

    def on_request(self, request: RoutedRequest, now_s: float) -> None:
        """As the router's: raises ValueError if its `rid` is already inside any of them."""
        if request.rid in self._inside:
            raise ValueError(f"rid {request.rid} is already in a router; every client attempt needs its own")
        draw = uniform(self._seed, _BALANCER, request.request_id, request.client_attempt)
        member = self._inside[request.rid] = self.members[int(draw * len(self.members))]
        member.on_request(request, now_s)

    def on_cancel(self, rid: int, now_s: float) -> None:
        member = self._inside.pop(rid, None)
        if member is not None:
            member.on_cancel(rid, now_s)

    def on_first_token(self, try_id: int, now_s: float) -> None:
        self._member(try_id).on_first_token(try_id, now_s)

    def on_try_end(
        self,
        try_id: int,
        ok: bool,
        status: int,
        now_s: float,
        error: str = "",
        output_tokens: int = 0,
        cached_tokens: int | None = None,
        at: int | None = None,
    ) -> None:
        self._member(try_id).on_try_end(try_id, ok, status, now_s, error, output_tokens, cached_tokens, at)

    def on_prefilled(self, try_id: int) -> None:
        self._member(try_id).on_prefilled(try_id)

    def set_healthy(self, replica_id: int, healthy: bool, now_s: float) -> None:
        """A health check that all of them share."""
        for member in self.members:
            member.set_healthy(replica_id, healthy, now_s)

    @property
    def may_wake(self) -> bool:
        return any(m.may_wake for m in self.members)

    def next_wake_s(self) -> float:
        return min(m.next_wake_s() for m in self.members)

    def on_wake(self, now_s: float) -> None:
        for member in self.members:
            if member.next_wake_s() <= now_s:
                member.on_wake(now_s)

    def _member(self, try_id: int) -> Router:
        return self.members[(try_id - 1) % len(self.members)]


class _MemberEffects:
    """A driver's effects as one member has them: its probes are asked in its name, and an answered request is forgotten."""

    def __init__(self, inside: dict[int, Router], effects: Effects, probe: Callable[[int, float], None]) -> None:
        self.send, self.abort, self.probe = effects.send, effects.abort, probe
        self.orphan: Callable[[int, float], None] | None = getattr(effects, "orphan", None)
        self._answer = effects.answer
        self._inside = inside

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        self._inside.pop(rid, None)
        self._answer(rid, end, now_s)
