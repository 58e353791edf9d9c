"""Requests wait at the router, a line for each tenant, while every replica is full. It does not know what is fair."""

from collections.abc import Collection, Mapping, Sequence
from heapq import heappop, heappush
from typing import Protocol

from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.guard import HOLD, SEND, Admission, Guard, Refuse, Release
from routers.policy import RoutedRequest

FULL_STATUS, EXPIRED_STATUS = 503, 408
Head = tuple[float, int, int]  # (rank, number, rid); the least comes first


_CAP = 64  # where nothing is known of the engine


class Discipline(Protocol):
    """Which tenant is next. A policy brings its own."""

    def rank(self, request: RoutedRequest, now_s: float) -> float:
        """The place of a request in its tenant's line: the least comes first, then the one that came first."""
        ...

    def enters(self, tenant: int, waiting: Collection[int]) -> None:
        """A tenant of whom nobody waited has a request now; `waiting`: the tenants who wait."""
        ...

    def next_of(self, heads: Mapping[int, Head]) -> int:
        """The tenant whose first request may go now. The heads are those of all who wait, or the one who need not."""
        ...

    def leaves(self, tenant: int) -> None:
        """The last request of a tenant has left its line."""
        ...


class FairQueueGuard(Guard):
    """Holds a request while all that it is shown hold `cap` or more, or others wait; lets one go as soon as one has room.

    A request leaves at its own deadline (408) or where `max_length` wait already (503); None = no limit.
    """

    def __init__(self, discipline: Discipline, cap: int, max_length: int | None) -> None:
        self._discipline, self._cap, self._max_length = discipline, cap, max_length
        self._lines: dict[int, list[Head]] = {}  # tenant → heap; who left is still in it
        self._waiting: dict[int, int] = {}  # rid → tenant
        self._lengths: dict[int, int] = {}  # tenant → how many really wait
        self._expiries: list[tuple[float, int]] = []
        self._number = 0

    def on_request(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Admission:
        tenant, discipline = request.tenant, self._discipline
        if not self._waiting and self._has_room(replicas):
            discipline.enters(tenant, ())
            discipline.next_of({tenant: (0.0, 0, request.rid)})
            discipline.leaves(tenant)
            return SEND
        if self._max_length is not None and len(self._waiting) >= self._max_length:
            return Refuse(FULL_STATUS)
        if tenant not in self._lengths:
            discipline.enters(tenant, self._lengths)
        self._join(request, now_s)
        return HOLD

    def on_done(self, request: RoutedRequest, now_s: float) -> None:
        if request.rid in self._waiting:
            self._leave(request.rid)

    def release(self, replicas: Sequence[ReplicaView], now_s: float) -> Sequence[Release]:
        """All that expired, and one more: what is sent changes the counts by which the next is chosen."""
        left = []
        while self._expiries and self._expiries[0][0] <= now_s:
            rid = heappop(self._expiries)[1]
            if rid in self._waiting:
                self._leave(rid)
                left.append(Release(rid, EXPIRED_STATUS))
        if self._waiting and self._has_room(replicas):
            heads = self._heads()
            rid = heads[self._discipline.next_of(heads)][2]
            self._leave(rid)
            left.append(Release(rid))
        return left

    def next_wake_s(self) -> float:
        while self._expiries and self._expiries[0][1] not in self._waiting:
            heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else float("inf")

    def _join(self, request: RoutedRequest, now_s: float) -> None:
        self._number += 1
        head = self._discipline.rank(request, now_s), self._number, request.rid
        heappush(self._lines.setdefault(request.tenant, []), head)
        self._waiting[request.rid] = request.tenant
        self._lengths[request.tenant] = self._lengths.get(request.tenant, 0) + 1
        if request.deadline_s < float("inf"):
            heappush(self._expiries, (request.deadline_s, request.rid))

    def _leave(self, rid: int) -> None:
        tenant = self._waiting.pop(rid)
        self._lengths[tenant] -= 1
        if not self._lengths[tenant]:
            del self._lengths[tenant], self._lines[tenant]
            self._discipline.leaves(tenant)

    def _heads(self) -> dict[int, Head]:
        for line in self._lines.values():
            while line[0][2] not in self._waiting:
                heappop(line)
        return {tenant: line[0] for tenant, line in self._lines.items()}

    def _has_room(self, replicas: Sequence[ReplicaView]) -> bool:
        return any(v.in_flight < self._cap for v in replicas)


def places_of(cap: int | None, profile: EngineProfile | None) -> int:
    """What each replica may have in flight: `cap`, or as many as its engine runs at once (fewer idle it, more wait there)."""
    if cap is not None:
        return cap
    return _CAP if profile is None else profile.max_running
