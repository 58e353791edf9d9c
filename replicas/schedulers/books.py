"""What an engine and its scheduler both keep: who runs, what decodes, what a step prefills, the KV pool. It decides nothing."""

from dataclasses import dataclass

from replicas.decode_batch import DecodeBatch
from replicas.prefix_cache import Lease, PrefixCache
from replicas.profile import EngineProfile
from replicas.radix_cache import RadixCache
from replicas.sequence import DECODE, PREFILL, QUEUED, Sequence


@dataclass(slots=True)
class Counters:
    """Monotone counters, as an engine's `/metrics` has them (tokens, or events)."""

    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    refusals: int = 0
    steps: int = 0
    queue_timeouts: int = 0
    lost_cancels: int = 0
    expired_pins: int = 0


class Books:
    """One engine's books. `step` counts finished decode steps; the latest of them ended at `decoded_s`.

    For those who look: `gone` counts sequences that have left while they decoded (finished or cancelled), and `shrunk` says
    that one has left its prefill batch. Whoever looks resets them.
    """

    def __init__(self, profile: EngineProfile, cache: PrefixCache | RadixCache) -> None:
        self.profile = profile
        self.cache = cache
        self.batch = DecodeBatch(profile.block_tokens)
        self.counters = Counters()
        self.running: dict[Sequence, None] = {}  # in order of admission
        self.prefilling: list[Sequence] = []
        self.chunks: list[tuple[Sequence, int]] = []  # prefill tokens of the step under way
        self.step = 0
        self.decoded_s = 0.0
        self.stalled = False  # some that decode have stood still since their latest token
        self.n_waiting = 0
        self.waiting_tokens = 0
        self.gone = 0
        self.shrunk = False
        self._n_admissions = 0

    def enter(self, sequence: Sequence, lease: Lease, cached: int) -> None:
        """A waiting sequence is admitted with `cached` tokens of KV in place."""
        self.n_waiting -= 1
        self.waiting_tokens -= sequence.prompt_tokens
        sequence.lease = lease
        sequence.state = PREFILL
        sequence.order = self._n_admissions = self._n_admissions + 1
        sequence.computed = cached
        if not sequence.admitted:
            sequence.admitted = True
            sequence.cached_tokens = cached
            if sequence.stage != "decode":  # its KV was brought, not looked up
                self.counters.prefix_query_tokens += sequence.prompt_tokens
                self.counters.prefix_hit_tokens += cached
        self.running[sequence] = None
        self.prefilling.append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """A running sequence goes, before its end."""
        if sequence.state is DECODE:
            self.batch.leave(sequence, self.step, self.decoded_s)
        else:
            self.prefilling.remove(sequence)
        del self.running[sequence]

    def requeue(self, sequence: Sequence) -> None:
        """A sequence that has left waits again, to be computed anew: the prompt and what it has generated."""
        self.counters.preemptions += 1
        sequence.state = QUEUED
        sequence.target = sequence.prompt_tokens + sequence.generated
        sequence.computed = 0
        self.n_waiting += 1
        self.waiting_tokens += sequence.prompt_tokens
