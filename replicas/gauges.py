"""What one may read of an engine while it runs: gauges, and predictions from its own state. It changes nothing."""

from collections import deque

from replicas.departures import Departures
from replicas.jump import Jump
from replicas.prefix_cache import PrefixCache
from replicas.profile import EngineProfile
from replicas.radix_cache import RadixCache
from replicas.schedulers.books import Books
from replicas.schedulers.scheduler import Scheduler
from replicas.sequence import DECODE, Sequence


class Gauges:
    """The readable side of `Engine`. The books of a jump are made up at its end: until then a gauge adds the steps done."""

    profile: EngineProfile
    cache: PrefixCache | RadixCache
    _books: Books
    _scheduler: Scheduler
    _inbox: deque[Sequence]
    _departures: Departures
    _jump: Jump | None

    @property
    def waiting(self) -> int:
        return self._books.n_waiting + len(self._inbox)

    @property
    def waiting_tokens(self) -> int:
        """Prompt tokens of all that wait."""
        return self._books.waiting_tokens

    @property
    def running(self) -> int:
        return len(self._books.running)

    @property
    def decoding(self) -> int:
        return self._books.batch.size

    @property
    def pinned(self) -> int:
        """Sequences whose KV is kept for another replica."""
        return len(self._departures.pins)

    @property
    def prefills(self) -> list[tuple[Sequence, int]]:
        """Sequences whose prompt is computed in the step under way, and how many tokens of it."""
        return self._books.chunks

    @property
    def jump(self) -> Jump | None:
        """The steps under way; None while idle. It may still be cut."""
        return self._jump

    def queue_age_s(self, now_s: float) -> float:
        """Age of the oldest request that has not been scheduled yet."""
        oldest = self._scheduler.waiting.oldest() or (self._inbox[0] if self._inbox else None)
        return now_s - oldest.arrived_s if oldest is not None else 0.0

    def latency_s(self, now_s: float) -> float:
        """What a probe is told: seconds until a short request that came now would have its first two tokens."""
        return self.prefill_backlog_s(now_s) + self.step_s(self.decoding + 1, self.kv_tokens(now_s))

    def step_s(self, batch: int, kv_tokens: int) -> float:
        """Seconds of a pure decode step."""
        step = self.profile.step
        return step.base_s + step.sequence_s * batch + step.kv_s * kv_tokens

    def kv_tokens(self, now_s: float) -> int:
        """Cached tokens of all decoding sequences."""
        batch = self._books.batch
        return batch.kv_tokens + batch.size * self._steps_done(now_s)

    def kv_used(self, now_s: float) -> float:
        """Share of KV blocks that running sequences hold (vLLM's kv_cache_usage)."""
        done = self._steps_done(now_s)
        if not done:
            return self.cache.used
        last = min(done, self._jump.steps - 1 if self._jump else 0)
        return self.cache.used + self._scheduler.blocks_ahead(last) / self.cache.kv_blocks

    def generated(self, sequence: Sequence, now_s: float) -> int:
        """Tokens that a sequence has put out."""
        if sequence.state is not DECODE:
            return sequence.generated
        return sequence.generated + self._books.step + self._steps_done(now_s) - sequence.join_step

    def prefill_backlog_s(self, now_s: float) -> float:
        """A prediction from what the engine itself knows: the step under way, then the prefills in front of a new request."""
        books, jump = self._books, self._jump
        seconds = 0.0 if jump is None else max(0.0, min(jump.end_s - now_s, jump.first_s))
        under_way = sum(tokens for _, tokens in books.chunks)
        prefill_tokens = books.waiting_tokens + sum(s.target - s.computed for s in books.prefilling) - under_way
        return seconds + prefill_tokens * self.profile.step.prefill_s

    def backlog_s(self, now_s: float) -> float:
        """As `prefill_backlog_s`, and the places in the batch that must become free first, by every sequence's *true* remaining
        output (for `oracle` only)."""
        batch = self._books.batch
        seconds = self.prefill_backlog_s(now_s)
        excess = self.running + self.waiting + 1 - self.profile.max_running
        if excess > 0 and batch.size:
            steps_left = batch.mean_steps_left(self._books.step + self._steps_done(now_s))
            places_s = steps_left * self.step_s(batch.size, self.kv_tokens(now_s))
            seconds += excess / batch.size * places_s
        return seconds

    def _steps_done(self, now_s: float) -> int:
        """Decode steps of the current jump that are over."""
        return self._jump.steps_by(now_s) if self._jump is not None and not self._books.chunks else 0
