"""Requests that wait their turn: FIFO or LIFO, with a deadline and a longest length. It does not know what they wait for."""

from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush

from routers.guard import HOLD, Admission, Refuse, Release
from routers.parameters import one_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`cap` requests at once; the rest waits at most `deadline_s` (and never beyond its own deadline), `max_length` of them.

    `order`: fifo or lifo. `drop`: who is refused when the line is full, the new one or the old (longest waiting) one. Refused
    with `full_status`, after the deadline with `expired_status`. Length 100 and 60 s are sglang-router's defaults; null = no
    limit. `cap` 64 is ours.
    """

    cap: int = 64
    order: str = "fifo"
    deadline_s: float | None = 60.0
    max_length: int | None = 100
    drop: str = "new"
    full_status: int = 503
    expired_status: int = 408

    def __post_init__(self) -> None:
        one_of("order", self.order, ("fifo", "lifo"))
        one_of("drop", self.drop, ("new", "old"))
        within("cap", self.cap, 1)
        within("deadline_s", self.deadline_s, 0.0)
        within("max_length", self.max_length, 0)
        within("full_status", self.full_status, 400, 599)
        within("expired_status", self.expired_status, 400, 599)


class WaitingLine:
    """All O(log n). A rid that left keeps its expiry in the heap until that time comes."""

    def __init__(self, settings: QueueSettings) -> None:
        self._settings = settings
        self._line: OrderedDict[int, float] = OrderedDict()  # rid → when it expires, in order of arrival
        self._expiries: list[tuple[float, int]] = []
        self._dropped: list[Release] = []

    def __len__(self) -> int:
        return len(self._line)

    def join(self, request: RoutedRequest, now_s: float) -> Admission:
        """Holds the request, or refuses it; with `drop: old` the one refused comes out of `leave`."""
        settings = self._settings
        expires_s = request.deadline_s if settings.deadline_s is None else min(request.deadline_s, now_s + settings.deadline_s)
        if settings.max_length is not None and len(self._line) >= settings.max_length:
            if settings.drop == "new" or not self._line:
                return Refuse(settings.full_status)
            oldest, _ = self._line.popitem(last=False)
            self._dropped.append(Release(oldest, settings.full_status))
        self._line[request.rid] = expires_s
        if expires_s < float("inf"):
            heappush(self._expiries, (expires_s, request.rid))
        return HOLD

    def hang_up(self, rid: int) -> None:
        self._line.pop(rid, None)

    def leave(self, room: int, now_s: float) -> list[Release]:
        """First those dropped and expired, then up to `room` whose turn it is."""
        left = self._dropped
        self._dropped = []
        while self._expiries and self._expiries[0][0] <= now_s:
            expires_s, rid = heappop(self._expiries)
            if self._line.get(rid) == expires_s:
                del self._line[rid]
                left.append(Release(rid, self._settings.expired_status))
        for _ in range(min(room, len(self._line))):
            rid, _ = self._line.popitem(last=self._settings.order == "lifo")
            left.append(Release(rid))
        return left

    def next_expiry_s(self) -> float:
        expiries = self._expiries
        while expiries and self._line.get(expiries[0][1]) != expiries[0][0]:
            heappop(expiries)
        return expiries[0][0] if expiries else float("inf")
