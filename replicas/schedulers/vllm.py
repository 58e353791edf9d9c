"""vLLM v1's scheduler (`vllm/v1/core/sched/scheduler.py`, main of 2026). It knows no time.

Running sequences first, in order of admission: decodes, then prefills in chunks, under one token budget
(`max_batched_tokens`; no chunk above `long_prefill_token_threshold`, unless a request is alone in the engine). When blocks run
out a running sequence is preempted and recomputed: the newest (`fcfs`), or the one of the highest priority value, then the
latest arrival (`priority`). In a step that preempted nothing is admitted. Scheduled prefill blocks can be hit at once; the last
token is always computed. `max_queued` is `--max-num-queued-reqs`: it counts all requests in flight, those that run included.

Under `priority` the sequence that lacks a block may be the one preempted: the step ends there, and those behind stand still.

Simplified: the decodes of a step come before its prefills, so a budget that does not suffice stalls prefills only; a repeated
prompt of whole blocks holds one block more than vLLM's (its last block is recomputed into a new one, and the old one stays
pinned); no speculative decoding, LoRA or encoder inputs. Steps scheduled ahead are the engine's.
"""

from replicas.prefix_cache import Lease, PrefixCache
from replicas.scheduler_settings import VllmSettings
from replicas.schedulers.books import Books
from replicas.schedulers.scheduler import Scheduler, brought_tokens
from replicas.schedulers.waiting import ByPriority, urgency
from replicas.sequence import DECODE, PREFILL, Sequence


class VllmScheduler(Scheduler):
    """Settings: `VllmSettings`."""

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        settings = self.profile.settings()
        assert isinstance(settings, VllmSettings)
        self._by_priority = settings.policy == "priority"
        self._threshold = settings.long_prefill_token_threshold
        self._longest_chunk = self.profile.max_batched_tokens
        self._whole_prompt = settings.whole_prompt_must_fit
        if self._by_priority:
            self.waiting = ByPriority()
        self._watermark = int(settings.watermark * self.profile.kv_blocks)
        self._standing: list[Sequence] = []  # decode, but not in the step under way
        self._blocks: PrefixCache = self._cache
        self._block_tokens, self._max_running = self.profile.block_tokens, self.profile.max_running

    def is_full(self, waiting: int) -> bool:
        limit = self.profile.max_queued
        return limit is not None and waiting + len(self.books.running) >= limit

    def compose(self, now_s: float) -> None:
        books = self.books
        preemptions = books.counters.preemptions
        self.blocked = False
        if self._threshold:
            alone = len(books.running) + books.n_waiting == 1
            self._longest_chunk = self.profile.max_batched_tokens if alone else self._threshold
        if self._standing:
            self._let_go_on()
        last = self._take_decode_blocks()
        if last is not None:
            if not self._stand_still_behind(last):
                self.compose(now_s)  # a step of nothing takes no time
                return
        elif books.prefilling:
            self._continue_prefills()
        self.single = books.counters.preemptions > preemptions
        if self.single and not books.batch.size and not books.chunks:
            self.compose(now_s)  # a step of nothing takes no time
        elif books.n_waiting and not self.single:
            self._admit_waiting()

    def steps_ahead(self) -> int:
        return self.books.batch.steps_until_change(self.books.step, self._blocks.free + self._blocks.evictable)

    def take_ahead(self, steps: int) -> None:
        books = self.books
        self._blocks.take(books.batch.blocks_between(books.step + 1, books.step + steps))

    def blocks_ahead(self, steps: int) -> int:
        books = self.books
        return books.batch.blocks_between(books.step + 1, books.step + 1 + steps)

    def release(self, sequence: Sequence) -> None:
        """Full blocks, generated tokens included, stay in the prefix cache."""
        lease = sequence.lease
        assert lease is not None
        size = self._block_tokens
        blocks = sequence.computed // size - sequence.prompt_tokens // size
        if blocks > 0:
            self._blocks.put(lease, sequence.reply_key, blocks)
        self._blocks.release(lease)
        sequence.lease = None

    def _take_decode_blocks(self) -> Sequence | None:
        """Blocks for the tokens that this step's decodes append; preempts while there are too few. Whoever had to go for its own
        block, where that ends the step."""
        cache, batch, step, taken = self._blocks, self.books.batch, self.books.step, 0
        needed = batch.blocks_at(step)
        if not needed:
            return None
        if needed <= cache.free + cache.evictable:
            cache.take(needed)
            return None
        if self._by_priority:
            return self._take_one_by_one()
        while batch.blocks_at(step) - taken > cache.available:
            taken += cache.available
            cache.take(cache.available)  # the older ones have got theirs before one must go
            self.preempt(self._victim())
        cache.take(batch.blocks_at(step) - taken)
        return None

    def _take_one_by_one(self) -> Sequence | None:
        """As `_take_decode_blocks`, in order of admission, for the least urgent of all may be anywhere in it."""
        books, cache = self.books, self._blocks
        for sequence in list(books.running):
            if sequence.state is not DECODE or not books.batch.needs_block(sequence, books.step):
                continue
            while not cache.available:
                victim = self._victim()
                if victim.order < sequence.order:
                    self._unschedule(victim)
                self.preempt(victim)
                if victim is sequence:
                    return sequence
            cache.take(1)
        return None

    def _stand_still_behind(self, last: Sequence) -> bool:
        """The decodes behind `last` sit this step out; False, and nothing done, where none is before it."""
        books = self.books
        decoding = [s for s in books.running if s.state is DECODE]
        behind = [s for s in decoding if s.order > last.order]
        if len(behind) == len(decoding):
            return False
        for sequence in behind:
            books.batch.leave(sequence, books.step, books.decoded_s)
            sequence.state, sequence.target = PREFILL, sequence.computed + 1  # as vLLM sees it: a token to compute
            books.prefilling.append(sequence)
        self._standing = behind
        return True

    def _let_go_on(self) -> None:
        """Who has stood still for a step decodes again, unless it was cancelled."""
        books = self.books
        for sequence in self._standing:
            if sequence.state == PREFILL:
                books.prefilling.remove(sequence)
                books.batch.join(sequence, books.step)
        self._standing = []
        books.stalled = True

    def _continue_prefills(self) -> None:
        """Go on with prefills that did not fit into the last step; under `fcfs` without a threshold there is one at most."""
        for sequence in list(self.books.prefilling):
            if sequence.state is not PREFILL:  # preempted for an earlier one
                continue
            chunk = min(sequence.target - sequence.computed, self._longest_chunk, self._budget())
            if chunk <= 0:
                return
            while self._blocks_for(sequence, chunk) > self._blocks.available:
                victim = self._victim()
                self._unschedule(victim)
                self.preempt(victim)
                if victim is sequence:
                    return
            self._grow(sequence, chunk)

    def _admit_waiting(self) -> None:
        """Move waiting sequences into the batch, in the queue's order, while tokens, places and blocks last."""
        books, cache, size, waiting = self.books, self._blocks, self._block_tokens, self.waiting
        budget = self._budget()
        while books.n_waiting and (sequence := waiting.head()) is not None:
            if budget <= 0 or len(books.running) >= self._max_running:
                self.blocked = len(books.running) >= self._max_running
                return
            target, (keys, ends) = sequence.target, sequence.path()
            brought = sequence.stage == "decode" and brought_tokens(sequence)
            lease = Lease(keys, ends) if brought else cache.find(keys, ends)
            cached = brought or lease.blocks * size
            chunk = target - cached
            if chunk > budget or chunk > self._longest_chunk:
                chunk = min(budget, self._longest_chunk)
            blocks = -(-(target if self._whole_prompt else cached + chunk) // size) - lease.blocks
            if self._watermark and books.running:
                blocks += self._watermark
            if blocks > cache.free and blocks > cache.free + cache.evictable - lease.evictable:
                self.blocked = not self._by_priority  # else an arrival may be the next to be served, and fit
                return
            cache.hold(lease)
            waiting.pop()
            books.enter(sequence, lease, cached)
            self._grow(sequence, chunk)
            budget -= chunk

    def _budget(self) -> int:
        books = self.books
        budget = self.profile.max_batched_tokens - books.batch.size
        for _, tokens in books.chunks:
            budget -= tokens
        return budget

    def _victim(self) -> Sequence:
        running = self.books.running
        return max(running, key=urgency) if self._by_priority else next(reversed(running))

    def _unschedule(self, sequence: Sequence) -> None:
        """A sequence that this step had already scheduled is about to be preempted: its share of the step is free again."""
        books = self.books
        if sequence.state is DECODE:
            if books.batch.needs_block(sequence, books.step):
                self._blocks.give_back(1)
        else:
            books.chunks[:] = [chunk for chunk in books.chunks if chunk[0] is not sequence]

    def _blocks_for(self, sequence: Sequence, chunk: int) -> int:
        assert sequence.lease is not None
        return -(-(sequence.computed + chunk) // self._block_tokens) - sequence.lease.blocks

    def _grow(self, sequence: Sequence, chunk: int) -> None:
        """Schedule `chunk` prefill tokens of a sequence in this step; its blocks can be hit from now on."""
        lease, upto = sequence.lease, sequence.computed + chunk
        assert lease is not None
        blocks = -(-upto // self._block_tokens) - lease.blocks
        if blocks > 0:
            self._blocks.take(blocks)
            lease.blocks += blocks
        self.books.chunks.append((sequence, chunk))
        self._blocks.fill(lease, upto)
