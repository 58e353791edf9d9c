"""Sarathi-Serve's stall-free batching (Agrawal et al., OSDI 2024; `sarathi/core/scheduler/sarathi_scheduler.py`).

Every decode runs in every step; what is left of the chunk (`max_batched_tokens`) goes to the prefills under way, then to new
ones, first come first served. A prompt's blocks are allocated whole at admission, which leaves `watermark` of the pool free;
no prefix cache. A decode runs only while at least one block is free, needed or not: otherwise the latest arrival of those not
yet scheduled is preempted and recomputed, or else itself. Admission goes on in a step that preempted. `max_queued` bounds the
requests that wait (Sarathi-Serve itself has no such limit).

Simplified: one chunk size (no dynamic schedule), no pipeline stages. It knows no time.
"""

from collections import deque

from replicas.scheduler_settings import SarathiSettings
from replicas.schedulers.books import Books
from replicas.schedulers.scheduler import Scheduler, brought_tokens
from replicas.sequence import DECODE


class SarathiScheduler(Scheduler):
    """Settings: `SarathiSettings`. Raises ValueError for a pool that one sequence of full length could block for ever."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        profile, settings = self.profile, self.profile.settings()
        assert isinstance(settings, SarathiSettings)
        self._watermark = int(settings.watermark * profile.kv_blocks)
        longest = -(-profile.context_tokens // profile.block_tokens)
        if profile.kv_blocks < longest + self._watermark + 1:
            raise ValueError(
                f"profile {profile.name}: kv_blocks {profile.kv_blocks} is less than the {longest} of one full context, "
                f"the watermark's {self._watermark} and one free block, which sarathi needs"
            )

    def compose(self, now_s: float) -> None:
        books, cache = self.books, self._cache
        preemptions = books.counters.preemptions
        self.blocked = False
        needed = books.batch.blocks_at(books.step)
        if cache.free > needed:  # nobody sees an empty pool
            cache.take(needed)
        else:
            self._take_one_by_one()
        budget = self.profile.max_batched_tokens - books.batch.size
        for sequence in sorted(books.prefilling, key=lambda s: s.arrived_s):
            chunk = min(sequence.target - sequence.computed, budget)
            if chunk > 0:
                books.chunks.append((sequence, chunk))
                budget -= chunk
        self._admit_waiting(budget)
        self.single = books.counters.preemptions > preemptions

    def steps_ahead(self) -> int:
        return self.books.batch.steps_until_change(self.books.step, self._cache.free - 1)

    def take_ahead(self, steps: int) -> None:
        self._cache.take(self.blocks_ahead(steps - 1))

    def blocks_ahead(self, steps: int) -> int:
        books = self.books
        return books.batch.blocks_between(books.step + 1, books.step + 1 + steps)

    def _take_one_by_one(self) -> None:
        """The decodes take their blocks in order of arrival, as the source does it."""
        books, cache = self.books, self._cache
        left = deque(sorted(books.running, key=lambda s: s.arrived_s))
        while left:
            sequence = left.popleft()
            if sequence.state is not DECODE:
                continue
            while cache.free == 0 and left:
                self.preempt(left.pop())
            if cache.free == 0:
                self.preempt(sequence)
            elif books.batch.needs_block(sequence, books.step):
                cache.take(1)

    def _admit_waiting(self, budget: int) -> None:
        books, cache = self.books, self._cache
        while (sequence := self.waiting.head()) is not None:
            blocks = -(-sequence.target // self.profile.block_tokens)
            if cache.free - blocks < self._watermark or len(books.running) >= self.profile.max_running:
                self.blocked = True
                return
            if budget <= 0:
                return
            cached = brought_tokens(sequence)
            chunk = min(sequence.target - cached, budget)
            self.admit(sequence, cached, blocks)
            books.chunks.append((sequence, chunk))
            budget -= chunk
