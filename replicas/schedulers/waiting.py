"""The orders in which requests may wait. It knows neither places nor memory; who left the queue elsewhere is skipped."""

import heapq
from collections import deque
from typing import Protocol

from replicas.sequence import QUEUED, Sequence


class Waiting(Protocol):
    """`head` is who is served next (None: nobody waits); `pop` takes it away."""

    def push(self, sequence: Sequence) -> None: ...

    def push_back(self, sequence: Sequence) -> None:
        """Who was preempted waits again."""

    def head(self) -> Sequence | None: ...

    def pop(self) -> object: ...

    def oldest(self) -> Sequence | None: ...


class FirstComeFirstServed:
    """Arrivals go to the tail, preempted ones to the head."""

    def __init__(self) -> None:
        self._waiting: deque[Sequence] = deque()
        self.push = self._waiting.append
        self.push_back = self._waiting.appendleft
        self.pop = self._waiting.popleft

    def head(self) -> Sequence | None:
        waiting = self._waiting
        while waiting:
            if waiting[0].state is QUEUED:
                return waiting[0]
            waiting.popleft()
        return None

    def oldest(self) -> Sequence | None:
        return next((s for s in self._waiting if s.state is QUEUED), None)


class ByPriority:
    """The lowest priority value first, then the earliest arrival (vLLM's PriorityRequestQueue)."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Sequence]] = []

    def push(self, sequence: Sequence) -> None:
        heapq.heappush(self._heap, (*urgency(sequence), sequence))

    push_back = push

    def head(self) -> Sequence | None:
        heap = self._heap
        while heap:
            if heap[0][-1].state is QUEUED:
                return heap[0][-1]
            heapq.heappop(heap)
        return None

    def pop(self) -> None:
        heapq.heappop(self._heap)

    def oldest(self) -> Sequence | None:
        alive = [entry[-1] for entry in self._heap if entry[-1].state is QUEUED]
        return min(alive, key=lambda s: s.arrived_s, default=None)


def urgency(sequence: Sequence) -> tuple[int, float, int]:
    """Sorts the most urgent first; the last one is preempted first."""
    return sequence.priority, sequence.arrived_s, sequence.try_id
