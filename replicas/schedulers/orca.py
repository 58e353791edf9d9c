"""Orca's iteration-level scheduling (Yu et al., OSDI 2022, Algorithm 1), as Sarathi-Serve's `orca_scheduler.py` rebuilds it.

First come first served; the whole prompt in one iteration beside the decodes, which it stalls; slots for the prompt and
`max_tokens` are reserved at admission, so nothing is ever preempted; no prefix cache. A request that does not fit blocks
those behind it. `max_queued` bounds the requests that wait (Orca itself has no such limit).

Simplified: slots are reserved in whole blocks; no pipeline stages. It knows no time.
"""

from replicas.schedulers.scheduler import Scheduler, brought_tokens
from replicas.sequence import Sequence


class OrcaScheduler(Scheduler):
    """No settings."""

    def compose(self, now_s: float) -> None:
        books = self.books
        self.blocked = False
        while (sequence := self.waiting.head()) is not None:
            blocks = self._reserved(sequence)
            if len(books.running) >= self.profile.max_running or blocks > self._cache.free:
                self.blocked = True
                return
            cached = brought_tokens(sequence)
            self.admit(sequence, cached, blocks)
            books.chunks.append((sequence, sequence.target - cached))

    def _reserved(self, sequence: Sequence) -> int:
        return -(-(sequence.prompt_tokens + sequence.max_tokens) // self.profile.block_tokens)
