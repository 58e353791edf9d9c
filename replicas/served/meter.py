"""What a replica has counted since it started, for its `/metrics`. It does not know under which names.

Times are the clock's, between the request's arrival here and its tokens' being due. A sequence's gaps are counted at its end: the
largest as it was, the others at their mean.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from replicas.sequence import Sequence as EngineSequence
from replicas.served.exposition import Histogram

LAG_BOUNDS_S = (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of an engine's histograms: seconds to the first token, between tokens, of a whole request, in the queue; tokens."""

    ttft: Sequence[float]
    gap: Sequence[float]
    e2e: Sequence[float]
    queue: Sequence[float]
    tokens: Sequence[float]


class Times(Protocol):
    """What is known of a request's times; None: it did not come to that."""

    submitted_s: float
    scheduled_s: float | None
    first_s: float | None


class Meter:
    """Histograms have the bounds that the engine's own have."""

    def __init__(self, bounds: Bounds) -> None:
        self.ttft_s, self.gap_s, self.tpot_s, self.e2e_s = (
            Histogram(b) for b in (bounds.ttft, bounds.gap, bounds.gap, bounds.e2e)
        )
        self.queue_s = Histogram(bounds.queue)
        self.prefill_s, self.decode_s, self.inference_s = (Histogram(bounds.e2e) for _ in range(3))
        self.prompt, self.made, self.uncached, self.asked = (Histogram(bounds.tokens) for _ in range(4))
        self.lag_s = Histogram(LAG_BOUNDS_S)
        self.ends: Counter[str] = Counter()
        self.prompt_tokens = self.cached_tokens = self.made_tokens = 0

    def on_first_token(self, sequence: EngineSequence, times: Times) -> None:
        assert times.first_s is not None
        self.ttft_s.observe(times.first_s - times.submitted_s)
        self.prompt_tokens += sequence.prompt_tokens
        self.cached_tokens += sequence.cached_tokens

    def on_end(self, sequence: EngineSequence, reason: str, times: Times, now_s: float) -> None:
        """A sequence ran to its end, or was dropped."""
        self.ends[reason] += 1
        made = sequence.generated
        self.made_tokens += made
        self.prompt.observe(sequence.prompt_tokens)
        self.made.observe(made)
        self.uncached.observe(sequence.prompt_tokens - sequence.cached_tokens)
        self.asked.observe(sequence.output_tokens)
        self.e2e_s.observe(now_s - times.submitted_s)
        if times.scheduled_s is not None:
            self.queue_s.observe(queue_time_s(sequence, times))
            self.inference_s.observe(now_s - times.scheduled_s)
        if times.first_s is not None:
            self._observe_tokens(sequence, times, now_s)

    def _observe_tokens(self, sequence: EngineSequence, times: Times, now_s: float) -> None:
        assert times.scheduled_s is not None
        assert times.first_s is not None
        made, largest_s, decode_s = sequence.generated, sequence.max_gap_s, now_s - times.first_s
        self.prefill_s.observe(times.first_s - times.scheduled_s)
        self.decode_s.observe(decode_s)
        if made < 2:
            return
        self.tpot_s.observe(decode_s / (made - 1))
        if made == 2 or largest_s <= 0:
            self.gap_s.observe(decode_s / (made - 1), made - 1)
            return
        self.gap_s.observe(largest_s)
        self.gap_s.observe(max(0.0, (decode_s - largest_s) / (made - 2)), made - 2)

    def on_abort(self, made: int) -> None:
        """The client went away after `made` tokens."""
        self.made_tokens += made


def queue_time_s(sequence: EngineSequence, times: Times) -> float:
    """Seconds between the front end's handing a request over and the scheduler's taking it up (0 while it waits)."""
    if times.scheduled_s is None:
        return 0.0
    return max(0.0, times.scheduled_s - times.submitted_s - (sequence.ready_s - sequence.arrived_s))
