"""What a replica has counted since it started, for its `/metrics`. It does not know under which names.

Times are the clock's, between the request's arrival here and its tokens' being due. A sequence's gaps are counted at its end: the
largest as it was, the others at their mean.
"""

from collections import Counter
from collections.abc import Sequence

from replicas.sequence import Sequence as EngineSequence
from replicas.served.exposition import Histogram

LAG_BOUNDS_S = (0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5)


class Meter:
    """Histograms have the bounds that the engine's own have."""

    def __init__(self, ttft: Sequence[float], gap: Sequence[float], e2e: Sequence[float], tokens: Sequence[float]) -> None:
        self.ttft_s, self.gap_s, self.tpot_s, self.e2e_s = (Histogram(b) for b in (ttft, gap, gap, e2e))
        self.prompt, self.made, self.uncached, self.asked = (Histogram(tokens) for _ in range(4))
        self.lag_s = Histogram(LAG_BOUNDS_S)
        self.ends: Counter[str] = Counter()
        self.prompt_tokens = self.cached_tokens = self.made_tokens = 0

    def on_first_token(self, sequence: EngineSequence, submitted_s: float, now_s: float) -> None:
        self.ttft_s.observe(now_s - submitted_s)
        self.prompt_tokens += sequence.prompt_tokens
        self.cached_tokens += sequence.cached_tokens

    def on_end(self, sequence: EngineSequence, reason: str, submitted_s: float, first_s: float | None, now_s: float) -> None:
        """A sequence ran to its end."""
        self.ends[reason] += 1
        made = sequence.generated
        self.made_tokens += made
        self.prompt.observe(sequence.prompt_tokens)
        self.made.observe(made)
        self.uncached.observe(sequence.prompt_tokens - sequence.cached_tokens)
        self.asked.observe(sequence.output_tokens)
        self.e2e_s.observe(now_s - submitted_s)
        if first_s is None or made < 2:
            return
        mean_s, largest_s = (now_s - first_s) / (made - 1), sequence.max_gap_s
        self.tpot_s.observe(mean_s)
        if made == 2 or largest_s <= 0:
            self.gap_s.observe(mean_s, made - 1)
            return
        self.gap_s.observe(largest_s)
        self.gap_s.observe(max(0.0, (now_s - first_s - largest_s) / (made - 2)), made - 2)

    def on_abort(self, made: int) -> None:
        """The client went away after `made` tokens."""
        self.made_tokens += made
