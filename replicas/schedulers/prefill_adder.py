"""The budget of one SGLang prefill batch (`PrefillAdder`, `managers/schedule_policy.py`). It knows no queue, takes no memory."""

from enum import Enum

from replicas.radix_cache import RadixCache
from replicas.scheduler_settings import SglangSettings
from replicas.sequence import Sequence


class Verdict(Enum):
    """Whether the next request may be tried: yes; no, memory is short; no, the batch has its tokens."""

    GO_ON = 0
    NO_MEMORY = 1
    NO_TOKENS = 2


class PrefillAdder:
    """Adds requests to one batch while tokens and memory last; `reserved` tokens are expected by the running ones."""

    def __init__(self, pages: RadixCache, settings: SglangSettings, reserved: float) -> None:
        self._pages, self._page = pages, pages.block_tokens
        self._clip = settings.clip_max_new_tokens
        self._later = reserved  # tokens promised, future ones included
        self._now = 0  # tokens promised in this step
        self._input_left = settings.max_prefill_tokens
        self._chunk_left = settings.chunked_prefill_size or None
        self.added: list[tuple[Sequence, int]] = []

    @property
    def _memory(self) -> int:
        return self._pages.available * self._page

    def continue_chunk(self, left: int, max_tokens: int) -> int:
        """Tokens of a prefill under way, of which `left` are missing; 0 = there is no memory for any."""
        assert self._chunk_left is not None
        room = min(self._chunk_left, int(self._memory - self._later))
        if room <= 0:
            room = min(self._chunk_left, self._memory)
        tokens = left if left <= room else room // self._page * self._page
        if tokens:
            self._charge(tokens, min(max_tokens, self._clip) if tokens == left else 0)
        return tokens

    def add(self, sequence: Sequence, cached: int, brought: int) -> tuple[int, Verdict]:
        """(tokens of a waiting sequence to prefill, or 0; what that means for the next).

        `cached` tokens need not be computed; of these, `brought` need memory yet, the others are locked already.
        """
        extend = sequence.target - cached
        wanted = min(max(sequence.max_tokens - sequence.generated, 0), self._clip)
        if brought + extend + wanted + self._page >= self._memory - self._later:
            return 0, Verdict.NO_MEMORY
        whole = self._ceil(extend)
        if self._chunk_left is None:
            if self.added and whole >= self._input_left:
                return 0, Verdict.NO_TOKENS
        elif whole > self._chunk_left:
            extend = (cached + self._chunk_left // self._page * self._page) // self._page * self._page - cached
            if extend <= 0:
                return 0, Verdict.NO_TOKENS
            self._charge(extend, 0)
            return extend, self._verdict()
        self._charge(extend, min(sequence.max_tokens, self._clip), brought)
        return extend, self._verdict()

    def _charge(self, tokens: int, future: int, brought: int = 0) -> None:
        tokens = self._ceil(tokens)
        self._later += tokens + future + self._page + self._ceil(brought)
        self._now += tokens + self._page + self._ceil(brought)
        self._input_left -= tokens
        if self._chunk_left is not None:
            self._chunk_left -= tokens

    def _verdict(self) -> Verdict:
        if self._memory <= self._later or self._memory <= self._now:
            return Verdict.NO_MEMORY
        if self._input_left <= 0 or (self._chunk_left is not None and self._chunk_left <= 0):
            return Verdict.NO_TOKENS
        return Verdict.GO_ON

    def _ceil(self, tokens: int) -> int:
        return -(-tokens // self._page) * self._page
