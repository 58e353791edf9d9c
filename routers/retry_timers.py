"""The retries that wait for their time. It does not know why they wait."""

from heapq import heappop, heappush

from routers.tries import Flight


class RetryTimers:
    """Earliest first, ties in the order they were set. A flight has at most one; `drop` it when its client hangs up."""

    __slots__ = ("_heap", "_last")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Flight, int]] = []  # (at_s, number, whose, the guard to go on at)
        self._last = 0

    def set(self, flight: Flight, at_s: float, first_guard: int) -> None:
        flight.timer = self._last = self._last + 1
        heappush(self._heap, (at_s, self._last, flight, first_guard))

    def drop(self, flight: Flight) -> None:
        flight.timer = 0

    def next_s(self) -> float:
        """When the next one is due (inf: none)."""
        heap = self._heap
        while heap and heap[0][2].timer != heap[0][1]:
            heappop(heap)
        return heap[0][0] if heap else float("inf")

    def take(self, now_s: float) -> tuple[Flight, int] | None:
        """The next one that is due, with the guard to go on at."""
        if self.next_s() > now_s:
            return None
        _, _, flight, first_guard = heappop(self._heap)
        flight.timer = 0
        return flight, first_guard
