"""Requests that wait their turn: FIFO or LIFO, with a deadline and a longest length. It does not know what they wait for."""

from collections import OrderedDict
from dataclasses import dataclass
from heapq import heappop, heappush

from routers.guard import HOLD, Admission, Refuse, Release
from routers.lines.codel import CoDel
from routers.parameters import one_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """`cap` requests at once; the rest waits at most `deadline_s` (and never beyond its own deadline), `max_length` of them.

    `order`: fifo, lifo, or adaptive: lifo while more than `lifo_above` wait (HHVM's `ThreadJobLIFOSwitchThreshold`, which is off
    by default; 16 is ours). `drop`: who is refused when the line is full, the new one or the old (longest waiting) one. Refused
    with `full_status`, after the deadline with `expired_status`, as who is dropped by CoDel (`codel_target_s`; null = without;
    folly's 5 ms of 100 ms are for requests of milliseconds). Length 100 and 60 s are sglang-router's defaults; null = no limit.
    `cap` 64 is ours.
    """

    cap: int | None = 64
    order: str = "fifo"
    deadline_s: float | None = 60.0
    max_length: int | None = 100
    drop: str = "new"
    full_status: int = 503
    expired_status: int = 408
    lifo_above: int = 16
    codel_target_s: float | None = None
    codel_interval_s: float = 0.1

    def __post_init__(self) -> None:
        one_of("order", self.order, ("fifo", "lifo", "adaptive"))
        one_of("drop", self.drop, ("new", "old"))
        within("cap", self.cap, 1)
        within("deadline_s", self.deadline_s, 0.0)
        within("max_length", self.max_length, 0)
        within("full_status", self.full_status, 400, 599)
        within("expired_status", self.expired_status, 400, 599)
        within("lifo_above", self.lifo_above, 0)
        within("codel_target_s", self.codel_target_s, 0.0)
        within("codel_interval_s", self.codel_interval_s, self.codel_target_s or 0.0)


class WaitingLine:
    """All O(log n). A rid that left keeps its expiry in the heap until that time comes."""

    def __init__(self, settings: QueueSettings) -> None:
        self._settings = settings
        self._line: OrderedDict[int, tuple[float, float]] = OrderedDict()  # rid → (expires at, waits since), in order
        self._expiries: list[tuple[float, int]] = []
        self._dropped: list[Release] = []
        target_s = settings.codel_target_s
        self._codel = None if target_s is None else CoDel(target_s, settings.codel_interval_s)

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
        self._line[request.rid] = expires_s, now_s
        if expires_s < float("inf"):
            heappush(self._expiries, (expires_s, request.rid))
        return HOLD

    def pass_by(self, now_s: float) -> None:
        """Somebody went on without waiting."""
        if self._codel is not None:
            self._codel.sloughs(0.0, now_s)

    def hang_up(self, rid: int) -> None:
        self._line.pop(rid, None)

    def leave(self, room: int, now_s: float) -> list[Release]:
        """First those dropped and expired, then up to `room` whose turn it is."""
        left = self._dropped
        self._dropped = []
        while self._expiries and self._expiries[0][0] <= now_s:
            expires_s, rid = heappop(self._expiries)
            if self._expires(rid) == expires_s:
                del self._line[rid]
                left.append(Release(rid, self._settings.expired_status))
        while room > 0 and self._line:
            rid, (_, since_s) = self._line.popitem(last=self._newest_first())
            if self._codel is not None and self._codel.sloughs(now_s - since_s, now_s):
                left.append(Release(rid, self._settings.expired_status))
            else:
                left.append(Release(rid))
                room -= 1
        return left

    def next_expiry_s(self) -> float:
        expiries = self._expiries
        while expiries and self._expires(expiries[0][1]) != expiries[0][0]:
            heappop(expiries)
        return expiries[0][0] if expiries else float("inf")

    def _newest_first(self) -> bool:
        order = self._settings.order
        return order == "lifo" or (order == "adaptive" and len(self._line) > self._settings.lifo_above)

    def _expires(self, rid: int) -> float | None:
        waits = self._line.get(rid)
        return None if waits is None else waits[0]
