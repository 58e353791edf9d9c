"""SGLang's longest-prefix-first queue with in-batch prefix caching (`SchedulePolicy`, `managers/schedule_policy.py`)."""

from collections import deque

from replicas.radix_cache import RadixCache
from replicas.sequence import QUEUED, Sequence

MOST_SORTED = 128  # a longer queue is served as it stands
SHORT_PREFIX_TOKENS = 32  # both of SGLang's thresholds of in-batch prefix caching


class LongestPrefixFirst:
    """Keeps the order of the last sort; newcomers and retracted ones go to the tail."""

    def __init__(self, cache: RadixCache) -> None:
        self._cache = cache
        self._waiting: deque[Sequence] = deque()

    def push(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    push_back = push

    def head(self) -> Sequence | None:
        waiting = self._waiting
        while waiting:
            if waiting[0].state is QUEUED:
                return waiting[0]
            waiting.popleft()
        return None

    def pop(self) -> None:
        self._waiting.popleft()

    def oldest(self) -> Sequence | None:
        return min((s for s in self._waiting if s.state is QUEUED), key=lambda s: s.arrived_s, default=None)

    def sort(self) -> None:
        """Longest cached prefix first; behind all others who shares a prefix that one of them is about to compute."""
        alive = [s for s in self._waiting if s.state is QUEUED]
        if len(alive) <= MOST_SORTED:
            ranks = self._ranks(alive)
            alive.sort(key=ranks.__getitem__)
        self._waiting = deque(alive)

    def _ranks(self, alive: list[Sequence]) -> dict[Sequence, float]:
        ranks: dict[Sequence, float] = {}
        about_to_compute: dict[int, int] = {}  # path key → tokens up to its end
        for sequence in alive:
            keys, ends = sequence.path()
            cached = self._cache.find(keys, ends, sequence.target).end * self._cache.block_tokens
            ranks[sequence] = -min(cached, sequence.target - 1)
            if cached > SHORT_PREFIX_TOKENS:
                continue
            if _shared_tokens(keys, ends, about_to_compute) >= SHORT_PREFIX_TOKENS:
                ranks[sequence] = float("inf")
            else:
                for key, end in zip(keys, ends, strict=True):
                    about_to_compute[key] = max(end, about_to_compute.get(key, 0))
        return ranks


def _shared_tokens(keys: tuple[int, ...], ends: tuple[int, ...], seen: dict[int, int]) -> int:
    """Tokens from the path's start that paths seen before have too."""
    shared = 0
    for key, end in zip(keys, ends, strict=True):
        if key not in seen:
            break
        shared = min(end, seen[key])
        if shared < end:
            break
    return shared
