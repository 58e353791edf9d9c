"""Who rings when, where several engines share an event loop. It knows no engine.

The chunks of a step leave one after another, and those of two engines whose steps end together do so, too. So each engine is rung
early by half of what its chunks take, and earlier still where it would be in the way of the next one. Timers themselves ring
late: by how much is learnt from whether the middle chunks left before or after they were due.
"""

import asyncio
from operator import itemgetter
from typing import Protocol

INF = float("inf")
_MOST_EARLY_S, _MOST_LATE_S, _NUDGE_S = 0.0045, 0.001, 2e-5
_DUE = itemgetter(0)


class Ringing(Protocol):
    def ring(self) -> None:
        """What is due next may be done now."""


class Turns:
    """One timer for all. Times are the event loop's."""

    def __init__(self) -> None:
        self._next: dict[Ringing, tuple[float, float, Ringing]] = {}  # (when it is due, seconds that it will take, who)
        self._late_s = 0.0
        self._rings_s = INF
        self._timer: asyncio.TimerHandle | None = None

    def set(self, who: Ringing, due_s: float, takes_s: float) -> None:
        """`who` has this to do next (INF: nothing)."""
        known = self._next.get(who)
        if due_s == INF:
            if known is None:
                return
            del self._next[who]
        elif known is not None and known[0] == due_s:
            return
        else:
            self._next[who] = (due_s, takes_s, who)
        self._set_timer()

    def note(self, behind_s: float) -> None:
        """The middle chunk of a step left so much after it was due (before: below 0)."""
        late_s = self._late_s + (_NUDGE_S if behind_s > 0 else -_NUDGE_S)
        self._late_s = min(max(late_s, 0.0), _MOST_LATE_S)

    def _set_timer(self) -> None:
        starts_s = INF
        for due_s, takes_s, _ in sorted(self._next.values(), key=_DUE, reverse=True):
            starts_s = max(min(due_s - takes_s / 2, starts_s - takes_s), due_s - _MOST_EARLY_S)
        rings_s = starts_s - self._late_s
        if self._timer is not None:
            if abs(rings_s - self._rings_s) < _NUDGE_S:
                return
            self._timer.cancel()
            self._timer = None
        if rings_s < INF:
            self._rings_s = rings_s
            self._timer = asyncio.get_running_loop().call_at(rings_s, self._ring)

    def _ring(self) -> None:
        """Whoever is due first has its turn, and says then what is next."""
        self._timer = None
        if self._next:
            _, _, who = min(self._next.values(), key=_DUE)
            del self._next[who]
            who.ring()
        if self._timer is None:
            self._set_timer()
