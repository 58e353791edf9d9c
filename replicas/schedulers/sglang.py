"""SGLang's scheduler (`managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`, `mem_cache/radix_cache.py`; 0.5.15 and
main of 2026). It knows no time.

Prefill first: if any waiting request can be admitted a step prefills and the decodes stand still. A prefill batch ends at
`max_prefill_tokens` or, cut into a chunk, at `chunked_prefill_size`. Admission is conservative: it reserves `max_tokens` of the
newcomer and, of each running request, what it may still put out times the new-token ratio, which falls with every decode step
and returns to its start when the engine is idle. Once memory or places are short the batch is *full* and nothing is admitted
until a decode step has seen it shrink. If a decode step lacks pages, requests are retracted, those with the fewest output
tokens first (then the longest prompt): their own pages are freed, what is in the tree may be evicted, they wait again at the
tail, and the ratio becomes what the rest has needed so far. What is computed can be hit when its step is over. `lpm` orders the
queue by longest cached prefix while 128 or fewer wait, and puts those off whose prefix another waiting request is about to
compute (in-batch prefix caching). `max_queued` is `--max-queued-requests`: it counts those that wait. Prompt + max_tokens
beyond the context is refused with 400.

Simplified: the prefixes of those that wait are not kept from eviction (0.5.23 touches them in every 32nd pass under `fcfs`); no
overlap scheduling (there every finish is seen one step late), no mixed chunks, no priorities; a cancelled sequence leaves without
one more step; refusals happen at submission; the allocator's margin of one page a sequence counts in the admission budget only;
a chunk that finds no memory waits (as in main; 0.5.15 would fail).
"""

from replicas.decode_batch import BudgetedBatch
from replicas.profile import EngineProfile
from replicas.radix_cache import RadixCache, RadixLease
from replicas.scheduler_settings import SglangSettings
from replicas.schedulers.books import Books
from replicas.schedulers.prefill_adder import PrefillAdder, Verdict
from replicas.schedulers.prefix_order import LongestPrefixFirst
from replicas.schedulers.scheduler import Scheduler, brought_tokens
from replicas.sequence import DECODE, PREFILL, Sequence


class SglangScheduler(Scheduler):
    """Settings: `SglangSettings`. Raises ValueError for a pool that one request of full length might never enter."""

    caches_when_computed = True
    serial_prefills = True  # `_apply_war_barrier`: it would overwrite what the first one reads

    @staticmethod
    def new_cache(profile: EngineProfile) -> RadixCache:
        return RadixCache(profile.kv_blocks, profile.block_tokens)

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        profile, settings = self.profile, self.profile.settings()
        assert isinstance(settings, SglangSettings)
        assert isinstance(books.cache, RadixCache)
        if profile.kv_blocks * profile.block_tokens < profile.context_tokens + profile.block_tokens:
            raise ValueError(
                f"profile {profile.name}: kv_blocks {profile.kv_blocks} is less than one full context of "
                f"{profile.context_tokens} tokens and one page of {profile.block_tokens}, which sglang needs"
            )
        self._settings = settings
        self._pages: RadixCache = books.cache
        books.batch = self._budgets = BudgetedBatch(profile.block_tokens, settings.clip_max_new_tokens)
        if settings.policy == "lpm":
            self.waiting = LongestPrefixFirst(self._pages)
        self._ratio = NewTokenRatio(settings)
        self._chunked: Sequence | None = None  # its prefill goes on in the next step
        self._full = False  # SGLang's `batch_is_full`

    def check(self, sequence: Sequence) -> int:
        context, prompt = self.profile.context_tokens, sequence.prompt_tokens
        if prompt < 1 or prompt >= context or (sequence.stage != "prefill" and prompt + sequence.max_tokens > context):
            return 400
        room = min(context, self.profile.kv_blocks * self.profile.block_tokens) - 2 - prompt
        if room < 1:
            return 400
        sequence.clamp(room)
        return 200

    # A step

    def compose(self, now_s: float) -> None:
        books = self.books
        if books.shrunk:  # the last prefill batch, which is looked at right away
            books.shrunk = self._full = False
        if self._chunked is not None and self._chunked.state is not PREFILL:  # cancelled
            self._chunked = None
        if not self.decodes and self._chunked is not None:
            self._full = False  # it was in the last batch, and is not among those that go on to decode
        self.single = self.blocked = False
        self._compose_prefill()
        if not books.chunks and not self._compose_decode():
            self._ratio.reset()
            self._compose_prefill()  # the batch was full of sequences that are gone
        self.decodes = not books.chunks
        self.blocked = self._full and self._chunked is None
        self.single = not self.blocked and (books.n_waiting > 0 or self._chunked is not None)

    def steps_ahead(self) -> int:
        return self.books.batch.steps_until_change(self.books.step, self._pages.available)

    def take_ahead(self, steps: int) -> None:
        """Steps take one by one; they evict only when the free pages do not last, and then as many as they take."""
        books, pages = self.books, self._pages
        self._ratio.decay(steps - 1)
        step, stop = books.step + 1, books.step + steps
        while step < stop:
            until = books.batch.steps_within(step, stop, pages.free)
            pages.free -= books.batch.blocks_between(step, until)
            step = until
            if step < stop:
                pages.take(books.batch.blocks_at(step))
                step += 1

    def blocks_ahead(self, steps: int) -> int:
        books = self.books
        return books.batch.blocks_between(books.step + 1, books.step + 1 + steps)

    def on_computed(self, sequence: Sequence) -> None:
        """What is computed goes into the tree, and what another had put there meanwhile is used from now on."""
        lease = self._lease(sequence)
        self._pages.move(lease, self._pages.insert(lease, *sequence.path(), sequence.computed))

    def on_idle(self) -> None:
        self._compose_decode()
        self._ratio.reset()

    # Prefill

    def _compose_prefill(self) -> None:
        """Continue the chunked prefill and admit whom the budget allows, unless the batch is full."""
        books, adder = self.books, None
        if (self._full or not books.n_waiting) and self._chunked is None:
            return
        places = self.profile.max_running - books.batch.size - books.gone  # who is gone is seen by the next decode step
        if places <= 0 and self._chunked is None:
            self._full = True
            return
        if isinstance(self.waiting, LongestPrefixFirst):
            self.waiting.sort()
        adder = PrefillAdder(self._pages, self._settings, self._reserved_tokens())
        if self._chunked is not None:
            self._continue_chunk(adder)
        self._admit_waiting(adder, places)
        self._take_chunks(adder.added)

    def _reserved_tokens(self) -> float:
        ratio = 1.0 if self._settings.ignore_eos else self._ratio.now
        return ratio * self._budgets.budget_left(self.books.step)

    def _continue_chunk(self, adder: PrefillAdder) -> None:
        sequence = self._chunked
        assert sequence is not None
        left = sequence.target - sequence.computed
        tokens = adder.continue_chunk(left, sequence.max_tokens)
        if tokens:
            adder.added.append((sequence, tokens))
            if tokens == left:
                self._chunked = None

    def _admit_waiting(self, adder: PrefillAdder, places: int) -> None:
        waiting, pages = self.waiting, self._pages
        while (sequence := waiting.head()) is not None:
            if len(adder.added) >= places:
                self._full = True
            if self._full:
                return
            brought = brought_tokens(sequence)
            node = pages.root if brought else pages.find(*sequence.path(), sequence.target - 1)
            cached = brought or node.end * pages.block_tokens
            pages.lock(node)
            chunk, verdict = adder.add(sequence, cached, brought)
            if not chunk:
                pages.unlock(node)
            else:
                waiting.pop()
                self.books.enter(sequence, RadixLease(node), cached)
                adder.added.append((sequence, chunk))
                if cached + chunk < sequence.target:
                    self._chunked = sequence
            if verdict == Verdict.NO_MEMORY:
                self._full = True
            if verdict != Verdict.GO_ON:
                return

    def _take_chunks(self, added: list[tuple[Sequence, int]]) -> None:
        """One allocation for the whole batch, as `alloc_for_extend` does it."""
        size, total = self.profile.block_tokens, 0
        for sequence, chunk in added:
            lease = self._lease(sequence)
            blocks = -(-(sequence.computed + chunk) // size)
            total += blocks - lease.blocks
            lease.blocks = blocks
        self._pages.take(total)
        self.books.chunks.extend(added)

    # Decode

    def _compose_decode(self) -> bool:
        """One decode step of all that decode; False when none is left."""
        books, pages = self.books, self._pages
        shrunk = books.gone > 0
        books.gone = 0
        if not books.batch.size:
            self._full = False
            return False
        if self._enough_pages():
            self._ratio.decay(1)
        else:
            self._retract()
            shrunk = True
        if shrunk:
            self._full = False
        pages.take(books.batch.blocks_at(books.step))
        return books.batch.size > 0

    def _enough_pages(self) -> bool:
        """Whether the decode step has its pages, after evicting what can be evicted for it."""
        pages, needed = self._pages, self.books.batch.blocks_at(self.books.step)
        if pages.free < needed:
            pages.evict(needed)
        return pages.free >= needed

    def _retract(self) -> None:
        """Free memory for one step; one sequence is always kept, and dropped if it does not fit alone."""
        books, pages = self.books, self._pages
        decoding = [s for s in books.running if s.state is DECODE]
        progress = {s: s.generated + books.step - s.join_step for s in decoding}
        decoding.sort(key=lambda s: (progress[s], -s.prompt_tokens), reverse=True)
        first = True
        while len(decoding) > 1 and (first or not self._enough_pages()):
            first = False
            sequence = decoding.pop()
            books.leave(sequence)
            self._discard(sequence)
            books.requeue(sequence)
            self.waiting.push(sequence)
            headroom = -(-len(decoding) * self._settings.retract_decode_steps // self.profile.block_tokens)
            if pages.free < headroom:
                pages.evict(headroom)
        if not self._enough_pages():
            self.dropped.append(decoding[-1])
            books.leave(decoding[-1])
            self._discard(decoding.pop())
        self._ratio.set(sum(progress[s] for s in decoding), sum(s.max_tokens for s in decoding), len(decoding))

    # Pages

    def release(self, sequence: Sequence) -> None:
        """What was computed stays in the tree, generated tokens included; the rest of the last page is free."""
        lease = self._lease(sequence)
        keys, ends = sequence.whole_path() if sequence.generated else sequence.path()
        node = self._pages.insert(lease, keys, ends, sequence.computed)
        self._pages.free += lease.blocks - node.end
        self._pages.unlock(lease.node)
        sequence.lease = None

    def _discard(self, sequence: Sequence) -> None:
        """Free what is the sequence's own at once, without putting it into the tree."""
        lease = self._lease(sequence)
        self._pages.free += lease.blocks - lease.node_blocks
        self._pages.unlock(lease.node)
        sequence.lease = None

    @staticmethod
    def _lease(sequence: Sequence) -> RadixLease:
        assert isinstance(sequence.lease, RadixLease)
        return sequence.lease


class NewTokenRatio:
    """The share of what running requests may still put out that admission expects of them (`NewTokenRatioTracker`)."""

    def __init__(self, settings: SglangSettings) -> None:
        self._init = min(settings.init_new_token_ratio * settings.schedule_conservativeness, 1.0)
        self._least = min(self._init * settings.min_new_token_ratio_factor, 1.0)
        self._decay = (self._init - self._least) / settings.new_token_ratio_decay_steps
        self._retract_steps = settings.retract_decode_steps
        self._start, self._steps = self._init, 0

    @property
    def now(self) -> float:
        return max(self._start - self._steps * self._decay, self._least) if self._steps else self._start

    def decay(self, steps: int) -> None:
        """So many decode steps went well."""
        self._steps += steps

    def reset(self) -> None:
        """The engine is idle."""
        self._start, self._steps = self._init, 0

    def set(self, decoded_tokens: int, max_tokens: int, sequences: int) -> None:
        """After a retraction: what those that remain have put out, and a little more, of what they may."""
        estimate = (decoded_tokens + self._retract_steps * sequences) / (max_tokens + 1)
        self._start, self._steps = min(1.0, estimate), 0
