"""What the scheduler flavours share: checks at the door, a queue, admission, preemption. It holds no engine's own rules."""

from replicas.prefix_cache import Lease, PrefixCache
from replicas.profile import EngineProfile
from replicas.radix_cache import RadixCache
from replicas.schedulers.books import Books
from replicas.schedulers.waiting import FirstComeFirstServed, Waiting
from replicas.sequence import Sequence

_NO_LIMIT = 1 << 60


class Scheduler:
    """Composes one step at a time; a flavour overrides what its engine does otherwise.

    After `compose`, `books.chunks` are the step's prefills, `decodes` says whether the decoding sequences run in it, `single`
    that the next step must be composed anew whatever happens, and `blocked` that no arrival can change anything until a
    sequence leaves.
    """

    caches_when_computed = False
    serial_prefills = False  # of two steps with prefills in a row, the second is prepared when the first is over

    def __init__(self, books: Books) -> None:
        self.books = books
        self.profile: EngineProfile = books.profile
        self.waiting: Waiting = FirstComeFirstServed()
        self.decodes = True
        self.single = False
        self.blocked = False
        self.dropped: list[Sequence] = []  # did not fit into memory even alone; out of the books already

    @staticmethod
    def new_cache(profile: EngineProfile) -> PrefixCache | RadixCache:
        return PrefixCache(profile.kv_blocks, profile.block_tokens)

    # At the door

    def check(self, sequence: Sequence) -> int:
        """200, or 400 for a prompt that is empty or leaves no room; a longer output is clamped silently, as vLLM does."""
        room = self.profile.context_tokens - sequence.prompt_tokens
        if room < 1 or sequence.prompt_tokens < 1:
            return 400
        if sequence.max_tokens > room:
            sequence.clamp(room)
        return 200

    def is_full(self, waiting: int) -> bool:
        """Whether `max_queued` refuses a request now that `waiting` wait; here it bounds those that wait."""
        return self.profile.max_queued is not None and waiting >= self.profile.max_queued

    # A step

    def compose(self, now_s: float) -> None:
        """Begin a step: blocks for the decodes, chunks, admissions, preemptions."""
        raise NotImplementedError

    def steps_ahead(self) -> int:
        """Steps from this one on (whose blocks are taken) in which nothing but an input can change the batch."""
        return self.books.batch.steps_until_change(self.books.step, _NO_LIMIT)

    def take_ahead(self, steps: int) -> None:
        """`steps` decode steps are over: the blocks of all but the first are taken now."""

    def blocks_ahead(self, steps: int) -> int:
        """Blocks that `steps` more decode steps take."""
        return 0

    def on_computed(self, sequence: Sequence) -> None:
        """A chunk of a sequence's prefill is computed (called if `caches_when_computed`)."""

    def on_idle(self) -> None:
        """Nothing runs and nothing waits."""

    # Blocks

    def release(self, sequence: Sequence) -> None:
        """Give a sequence's blocks back."""
        lease = sequence.lease
        assert lease is not None
        self._cache.release(lease)
        sequence.lease = None

    @property
    def _cache(self) -> PrefixCache:
        cache = self.books.cache
        assert isinstance(cache, PrefixCache)
        return cache

    def admit(self, sequence: Sequence, cached: int, blocks: int) -> None:
        """Admit the head of the queue with `blocks` blocks of its own, no part of any prefix."""
        self.waiting.pop()
        lease = Lease((), ())
        self._cache.take(blocks)
        lease.blocks = blocks
        self.books.enter(sequence, lease, cached)

    def preempt(self, sequence: Sequence) -> None:
        """Recompute preemption: a running sequence loses its blocks and waits again."""
        self.books.leave(sequence)
        self.release(sequence)
        self.books.requeue(sequence)
        self.waiting.push_back(sequence)


def brought_tokens(sequence: Sequence) -> int:
    """Tokens whose KV comes with the sequence from the replica that prefilled it: all but the last, once."""
    return sequence.target - 1 if sequence.stage == "decode" and not sequence.generated else 0
