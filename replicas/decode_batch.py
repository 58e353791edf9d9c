"""The decoding sequences of one engine, counted so that a step costs the same whatever the batch holds. It knows no clock.

Every decoding sequence gets one token a step, so its end is a step number, its next block a step modulo the block, and its
largest gap the longest step since it joined.
"""

from bisect import bisect_left
from heapq import heappop, heappush

from replicas.sequence import DECODE, Sequence


class DecodeBatch:
    """Joined at a step boundary, left at one. `step` arguments are the number of steps finished so far."""

    def __init__(self, block_tokens: int) -> None:
        self.size = 0
        self.kv_tokens = 0  # cached tokens of all of them
        self._block_tokens = block_tokens
        self._residues = [0] * block_tokens  # sequences by the step (mod block) at which they need a block
        self._finishing: list[tuple[int, int, Sequence]] = []  # heap by finish step, then by order of admission
        self._finish_sum = 0
        self._longest: list[tuple[int, float]] = []  # (step, seconds), seconds falling: running maximum of the gaps
        self._fresh: list[Sequence] = []  # joined since the last step

    def join(self, sequence: Sequence, step: int) -> None:
        """A sequence has put out its latest token and decodes from step `step` on."""
        computed = sequence.computed
        finish_step = step + sequence.output_tokens - sequence.generated
        sequence.state = DECODE
        sequence.join_step = sequence.gap_step = step
        sequence.finish_step = finish_step
        heappush(self._finishing, (finish_step, sequence.order, sequence))
        self.size += 1
        self.kv_tokens += computed
        self._finish_sum += finish_step
        self._fresh.append(sequence)
        self._residues[(computed - step) % self._block_tokens] += 1

    def leave(self, sequence: Sequence, step: int, decoded_s: float) -> None:
        """Settle a sequence's counts: tokens since it joined, blocks, its largest gap. The last step ended at `decoded_s`."""
        join_step, computed = sequence.join_step, sequence.computed
        self._residues[(computed - join_step) % self._block_tokens] -= 1
        self.size -= 1
        self._finish_sum -= sequence.finish_step
        steps = step - join_step
        if steps:
            computed += steps
            sequence.computed = computed
            sequence.generated += steps
            sequence.last_token_s = decoded_s
            if step > sequence.gap_step:
                longest_s = self._longest[bisect_left(self._longest, (sequence.gap_step, 0.0))][1]
                if longest_s > sequence.max_gap_s:
                    sequence.max_gap_s = longest_s
        self.kv_tokens -= computed
        lease = sequence.lease
        assert lease is not None
        blocks = -(-computed // self._block_tokens)
        if blocks > lease.blocks:
            lease.blocks = blocks

    def advance(self, step: int, steps: int, longest_s: float) -> None:
        """`steps` steps from `step` on are over; the longest of them, the last, took `longest_s`."""
        self.kv_tokens += self.size * steps
        self._fresh.clear()
        longest = self._longest
        while longest and longest[-1][1] <= longest_s:
            longest.pop()
        longest.append((step + steps - 1, longest_s))

    def note_stall(self, step: int, gap_s: float) -> list[Sequence]:
        """Before `advance`: other work has stood before step `step`, so that its token came `gap_s` after the one before.

        Returns the sequences that put out their latest token meanwhile; their gap is shorter, and theirs to tell.
        """
        longest = self._longest
        while longest and longest[-1][1] <= gap_s:
            longest.pop()
        longest.append((step, gap_s))
        fresh = [s for s in self._fresh if s.state is DECODE]
        for sequence in fresh:
            sequence.gap_step = step + 1
        return fresh

    def pop_finished(self, step: int) -> list[Sequence]:
        """Sequences that have all their tokens after `step` steps, in order of admission; they still have to `leave`."""
        finishing = self._finishing
        finished: list[Sequence] = []
        while finishing and finishing[0][0] <= step:
            finish_step, order, sequence = heappop(finishing)
            if sequence.state is DECODE and sequence.finish_step == finish_step and sequence.order == order:
                finished.append(sequence)
        return finished

    def blocks_at(self, step: int) -> int:
        """Blocks that the tokens of the step number `step` need."""
        return self._residues[-step % self._block_tokens]

    def needs_block(self, sequence: Sequence, step: int) -> bool:
        """Whether the sequence's token of step number `step` needs a block."""
        return (sequence.computed + step - sequence.join_step) % self._block_tokens == 0

    def blocks_between(self, first: int, stop: int) -> int:
        """Blocks that the steps first … stop−1 need together."""
        cycles, rest = divmod(stop - first, self._block_tokens)
        if not rest:
            return cycles * self.size
        residues, last = self._residues, -first % self._block_tokens  # they are counted downwards
        if rest <= last + 1:
            return cycles * self.size + sum(residues[last - rest + 1 : last + 1])
        return cycles * self.size + sum(residues[: last + 1]) + sum(residues[last - rest + 1 :])

    def steps_within(self, step: int, stop: int, spare_blocks: int) -> int:
        """The step up to which (`stop` at most) the steps from `step` on make do with `spare_blocks`."""
        cycles = min(spare_blocks // self.size, (stop - step) // self._block_tokens)
        step += cycles * self._block_tokens
        spare_blocks -= cycles * self.size
        while step < stop and self.blocks_at(step) <= spare_blocks:
            spare_blocks -= self.blocks_at(step)
            step += 1
        return step

    def steps_until_change(self, step: int, spare_blocks: int) -> int:
        """Steps from `step` on until a sequence finishes or `spare_blocks` do not last, at least 1 (its blocks are taken)."""
        finishing = self._finishing
        while True:  # who left before its end is still there, even if it has come back since
            finish_step, order, sequence = finishing[0]
            if sequence.state is DECODE and sequence.finish_step == finish_step and sequence.order == order:
                break
            heappop(finishing)
        steps = finish_step - step
        if -(-(steps - 1) // self._block_tokens) * self.size <= spare_blocks:
            return steps
        for done in range(1, steps):
            spare_blocks -= self.blocks_at(step + done)
            if spare_blocks < 0:
                return done
        return steps

    def mean_steps_left(self, step: int) -> float:
        """How many steps a sequence of the batch still has, on average (0 when it is empty)."""
        return self._finish_sum / self.size - step if self.size else 0.0


class BudgetedBatch(DecodeBatch):
    """One that also knows what its sequences may still put out by their `max_tokens`, at most `clip_tokens` each."""

    def __init__(self, block_tokens: int, clip_tokens: int) -> None:
        super().__init__(block_tokens)
        self._clip_tokens = clip_tokens
        self._budget_sum = 0  # as `_finish_sum`, by `max_tokens` instead of the true length
        self._clipped: dict[Sequence, None] = {}  # may put out more than `clip_tokens`

    def join(self, sequence: Sequence, step: int) -> None:
        super().join(sequence, step)
        left = sequence.max_tokens - sequence.generated
        self._budget_sum += step + left
        if left > self._clip_tokens:
            self._clipped[sequence] = None

    def leave(self, sequence: Sequence, step: int, decoded_s: float) -> None:
        self._budget_sum -= sequence.join_step + sequence.max_tokens - sequence.generated
        self._clipped.pop(sequence, None)
        super().leave(sequence, step, decoded_s)

    def budget_left(self, step: int) -> int:
        """Tokens that the sequences may still put out, together."""
        over = (s.join_step + s.max_tokens - s.generated - step - self._clip_tokens for s in self._clipped)
        return self._budget_sum - self.size * step - sum(tokens for tokens in over if tokens > 0)
