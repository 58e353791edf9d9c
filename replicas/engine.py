"""The simulated engine: one continuous-batching replica as a sans-IO state machine. It knows no router, client or clock.

Scheduling after vLLM v1: FCFS; decodes first, then prefills in chunks under one token budget (Sarathi-Serve); paged KV with
prefix caching; when blocks run out the newest sequence is preempted and recomputed. Between two events that change the
batch, decode steps are an arithmetic series and are jumped over in closed form.
"""

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from replicas.decode_batch import DecodeBatch
from replicas.jump import Jump
from replicas.prefix_cache import Lease, PrefixCache
from replicas.profile import EngineProfile
from replicas.sequence import Sequence, State

INF = float("inf")


@dataclass(slots=True)
class Counters:
    """Monotone counters, as an engine's `/metrics` has them (tokens, or events)."""

    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    refusals: int = 0
    steps: int = 0


class Pace(Protocol):
    """How the run's time passes against the engine's own, where the two differ (a replica that is paused or slowed down)."""

    def run_s(self, own_s: float) -> float: ...

    def longest_step_s(self, jump: Jump) -> float: ...


class Engine:
    """One replica. Call `on_wake` at `next_s`; `submit` and `cancel` whenever; each may change `next_s`.

    `on_wake` returns the sequences something happened to: got their first token, finished, or were cancelled (see `state`).
    All times are its own; where the run's differ, whoever drives it sets `pace`, and a sequence's `max_gap_s` is the run's.
    Raises ValueError when the KV pool cannot hold one sequence of `context_tokens`.
    """

    def __init__(self, profile: EngineProfile) -> None:
        if profile.kv_blocks * profile.block_tokens < profile.context_tokens:
            raise ValueError(
                f"profile {profile.name}: kv_blocks {profile.kv_blocks} x block_tokens {profile.block_tokens} "
                f"is less than context_tokens {profile.context_tokens}; one sequence of full length must fit"
            )
        self.profile = profile
        self.cache = PrefixCache(profile.kv_blocks, profile.block_tokens)
        self.counters = Counters()
        self.next_s = INF
        self.pace: Pace | None = None
        self.waiting_tokens = 0
        self._inbox: deque[Sequence] = deque()  # accepted by the front end, not yet seen by the scheduler
        self._waiting: deque[Sequence] = deque()
        self._n_waiting = 0
        self._running: dict[Sequence, None] = {}  # in order of admission
        self._prefilling: list[Sequence] = []
        self._cancels: deque[tuple[float, Sequence]] = deque()
        self._decoding = DecodeBatch(profile.block_tokens)
        self._n_admissions = 0
        self._step = 0
        self._jump: Jump | None = None  # the steps under way; None while idle
        self._chunks: list[tuple[Sequence, int]] = []
        self._blocked = False  # nothing waiting can be admitted until a sequence leaves

    # What others may read ---------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return self._n_waiting + len(self._inbox)

    @property
    def running(self) -> int:
        return len(self._running)

    def queue_age_s(self, now_s: float) -> float:
        """Age of the oldest request that has not been scheduled yet."""
        for queue in (self._waiting, self._inbox):
            for sequence in queue:
                if sequence.state == State.QUEUED:
                    return now_s - sequence.arrived_s
        return 0.0

    def latency_s(self, now_s: float) -> float:
        """What a probe is told: seconds until a short request that came now would have its first two tokens."""
        return self.prefill_backlog_s(now_s) + self.step_s(self.decoding + 1, self.kv_tokens(now_s))

    def step_s(self, batch: int, kv_tokens: int) -> float:
        """Seconds of a pure decode step."""
        step = self.profile.step
        return step.base_s + step.sequence_s * batch + step.kv_s * kv_tokens

    def kv_tokens(self, now_s: float) -> int:
        """Cached tokens of all decoding sequences."""
        return self._decoding.kv_tokens + self._decoding.size * self._steps_done(now_s)

    def kv_used(self, now_s: float) -> float:
        """Share of KV blocks that running sequences hold (vLLM's kv_cache_usage)."""
        done = self._steps_done(now_s)
        if not done:
            return self.cache.used
        last = min(done, self._jump.steps - 1 if self._jump else 0)
        taken = self._decoding.blocks_between(self._step + 1, self._step + 1 + last)
        return self.cache.used + taken / self.cache.kv_blocks

    def generated(self, sequence: Sequence, now_s: float) -> int:
        """Tokens that a sequence has put out."""
        if sequence.state != State.DECODE:
            return sequence.generated
        return sequence.generated + self._step + self._steps_done(now_s) - sequence.join_step

    def _steps_done(self, now_s: float) -> int:
        """Steps of the current jump that are over: its books are made up only at its end."""
        return self._jump.steps_by(now_s) if self._jump is not None and not self._chunks else 0

    @property
    def decoding(self) -> int:
        return self._decoding.size

    def prefill_backlog_s(self, now_s: float) -> float:
        """A prediction from what the engine itself knows: the step under way, then the prefills in front of a new request."""
        seconds = 0.0 if self._jump is None else max(0.0, min(self.next_s - now_s, self._jump.first_s))
        under_way = sum(tokens for _, tokens in self._chunks)
        prefill_tokens = self.waiting_tokens + sum(s.target - s.computed for s in self._prefilling) - under_way
        return seconds + prefill_tokens * self.profile.step.prefill_s

    def backlog_s(self, now_s: float) -> float:
        """As `prefill_backlog_s`, and the places in the batch that must become free first, by every sequence's *true* remaining
        output (for `oracle` only)."""
        batch = self._decoding
        seconds = self.prefill_backlog_s(now_s)
        excess = self.running + self.waiting + 1 - self.profile.max_running
        if excess > 0 and batch.size:
            steps_left = batch.mean_steps_left(self._step + self._steps_done(now_s))
            places_s = steps_left * self.step_s(batch.size, self.kv_tokens(now_s))
            seconds += excess / batch.size * places_s
        return seconds

    # Inputs -----------------------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_s: float, delay_s: float = 0.0) -> int:
        """Hand a sequence in; returns 200, or the HTTP status of a refusal (400 too long or empty, 503 queue full)."""
        profile = self.profile
        room = profile.context_tokens - sequence.prompt_tokens
        if room < 1 or sequence.prompt_tokens < 1:
            return self._refuse(sequence, 400)
        if profile.max_queued is not None and self.waiting >= profile.max_queued:
            return self._refuse(sequence, 503)
        if sequence.output_tokens > room:  # clamped silently, as vLLM does
            sequence.output_tokens = room
            sequence.path_ends = (*sequence.path_ends[:-1], profile.context_tokens)
        sequence.arrived_s = now_s
        sequence.ready_s = now_s + profile.frontend_delay_s(sequence.prompt_tokens) + delay_s
        self.waiting_tokens += sequence.prompt_tokens
        if self._inbox and sequence.ready_s < self._inbox[-1].ready_s:
            self._insert_by_ready(sequence)
        else:
            self._inbox.append(sequence)
        if self._jump is None:
            self.next_s = min(self.next_s, self._inbox[0].ready_s)
        elif not self._blocked:
            self._cut(self._jump, sequence.ready_s)
        return 200

    def cancel(self, sequence: Sequence, now_s: float) -> None:
        """The client hung up: takes effect at the first step boundary after `cancel_lag_s`."""
        effective_s = now_s + self.profile.cancel_lag_s
        self._cancels.append((effective_s, sequence))
        if self._jump is None:
            self.next_s = min(self.next_s, effective_s)
        elif sequence.state <= State.DECODE:
            self._cut(self._jump, effective_s)

    def on_wake(self, now_s: float) -> list[Sequence]:
        """Finish the step that ends now, if any, and begin the next one; returns the sequences something happened to."""
        touched: list[Sequence] = []
        if self._jump is not None:
            self._end_steps(self._jump, now_s, touched)
        self._apply_cancels(now_s, touched)
        self._open_inbox(now_s)
        self._begin_step(now_s)
        return touched

    # One step ---------------------------------------------------------------------------------------------------------

    def _begin_step(self, now_s: float) -> None:
        self._chunks = []
        self._blocked = False
        if not self._running and not self._n_waiting:
            self._jump = None
            pending = self._inbox[0].ready_s if self._inbox else INF
            self.next_s = min(pending, self._cancels[0][0]) if self._cancels else pending
            return
        preemptions = self.counters.preemptions
        self._take_decode_blocks(now_s)
        budget = self._continue_prefill(self.profile.max_batched_tokens - self._decoding.size, now_s)
        preempted = self.counters.preemptions > preemptions
        if not preempted:
            self._admit(budget)
        self._plan_steps(now_s, single=preempted)

    def _take_decode_blocks(self, now_s: float) -> None:
        """Blocks for the tokens that this step's decodes append; preempts the newest sequences while there are too few."""
        cache, batch, taken = self.cache, self._decoding, 0
        while batch.blocks_at(self._step) - taken > cache.available:
            taken += cache.available
            cache.take(cache.available)  # the older ones have got theirs before the newest must go
            self._preempt_newest(now_s)
        cache.take(batch.blocks_at(self._step) - taken)

    def _continue_prefill(self, budget: int, now_s: float) -> int:
        """Go on with the prefill that did not fit into the last step. There is one at most, of the newest sequence, so when
        blocks are short it is this one that is preempted. Returns the budget left."""
        for sequence in list(self._prefilling):
            chunk = min(sequence.target - sequence.computed, budget)
            if chunk <= 0 or self._blocks_for(sequence, chunk) > self.cache.available:
                if chunk > 0:
                    self._preempt_newest(now_s)
                break
            self._grow(sequence, chunk)
            budget -= chunk
        return budget

    def _admit(self, budget: int) -> None:
        """Move waiting sequences into the batch, first come first served, while tokens, places and blocks last."""
        waiting, cache, size = self._waiting, self.cache, self.profile.block_tokens
        while waiting:
            sequence = waiting[0]
            if sequence.state != State.QUEUED:
                waiting.popleft()
                continue
            if budget <= 0 or len(self._running) >= self.profile.max_running:
                self._blocked = len(self._running) >= self.profile.max_running
                return
            keys, ends = self._path(sequence)
            brought = sequence.stage == "decode" and not sequence.generated  # the KV came with it
            hit = 0 if brought else cache.match(keys, ends)
            cached = sequence.target - 1 if brought else hit * size
            chunk = min(sequence.target - cached, budget)
            blocks = -(-(cached + chunk) // size) - hit
            if blocks > cache.free and blocks > cache.available - cache.evictable_among(keys, ends, hit):
                self._blocked = True
                return
            lease = cache.acquire(keys, ends, hit)
            waiting.popleft()
            self._n_waiting -= 1
            self.waiting_tokens -= sequence.prompt_tokens
            self._enter(sequence, lease, cached)
            self._grow(sequence, chunk)
            budget -= chunk

    def _enter(self, sequence: Sequence, lease: Lease, cached: int) -> None:
        sequence.lease = lease
        sequence.state = State.PREFILL
        sequence.order = self._n_admissions = self._n_admissions + 1
        sequence.computed = cached
        if not sequence.admitted:
            sequence.admitted = True
            sequence.cached_tokens = cached
            if sequence.stage != "decode":  # its KV was brought, not looked up
                self.counters.prefix_query_tokens += sequence.prompt_tokens
                self.counters.prefix_hit_tokens += cached
        self._running[sequence] = None
        self._prefilling.append(sequence)

    def _path(self, sequence: Sequence) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The prefix path of what must be computed: the prompt, and after a preemption the tokens already generated."""
        if sequence.generated:
            return sequence.path_keys, (*sequence.path_ends[:-1], sequence.target)
        return sequence.path_keys[:-1], sequence.path_ends[:-1]

    def _blocks_for(self, sequence: Sequence, chunk: int) -> int:
        assert sequence.lease is not None
        return -(-(sequence.computed + chunk) // self.profile.block_tokens) - sequence.lease.blocks

    def _grow(self, sequence: Sequence, chunk: int) -> None:
        """Schedule `chunk` prefill tokens of a sequence in this step. Like vLLM, its blocks can be hit from now on."""
        assert sequence.lease is not None
        blocks = self._blocks_for(sequence, chunk)
        if blocks > 0:
            self.cache.take(blocks)
            sequence.lease.blocks += blocks
        self._chunks.append((sequence, chunk))
        self.cache.fill(sequence.lease, sequence.computed + chunk)

    def _plan_steps(self, now_s: float, single: bool) -> None:
        """Fix how long this step takes and, when nothing can change the batch, how many steps to jump over."""
        step, batch = self.profile.step, self._decoding
        seconds = step.base_s + step.sequence_s * batch.size + step.kv_s * batch.kv_tokens
        if self._chunks:
            seconds += step.prefill_base_s
            for sequence, chunk in self._chunks:
                seconds += step.prefill_s * chunk + step.attention_s * chunk * (sequence.computed + chunk / 2)
            seconds = max(seconds, step.prefill_floor_s)
        steps = 1 if single or self._chunks else batch.steps_until_change(self._step, self.cache.available)
        jump = self._jump = Jump(now_s, steps, seconds, step.kv_s * batch.size)
        self.next_s = jump.end_s
        if steps > 1:
            if self._inbox and not self._blocked:
                self._cut(jump, self._inbox[0].ready_s)
            for effective_s, sequence in self._cancels:
                if sequence.state <= State.DECODE:
                    self._cut(jump, effective_s)
                    break

    def _cut(self, jump: Jump, at_s: float) -> None:
        jump.cut(at_s)
        self.next_s = jump.end_s

    def _end_steps(self, jump: Jump, now_s: float, touched: list[Sequence]) -> None:
        batch = self._decoding
        self.counters.steps += jump.steps
        if batch.size:
            if jump.steps > 1:  # the first step's blocks were taken when it began
                self.cache.take(batch.blocks_between(self._step + 1, self._step + jump.steps))
            batch.advance(self._step, jump.steps, jump.longest_s if self.pace is None else self.pace.longest_step_s(jump))
        self._step += jump.steps
        for sequence in batch.pop_finished(self._step):
            batch.leave(sequence, self._step, now_s)
            self._finish(sequence, now_s, touched)
        for sequence, chunk in self._chunks:
            sequence.computed += chunk
            sequence.prefilled_tokens += chunk
            if sequence.computed == sequence.target:
                self._emit_after_prefill(sequence, now_s, touched)

    def _emit_after_prefill(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        """The step that completes a prefill puts out one token."""
        self._prefilling.remove(sequence)
        sequence.generated += 1
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
            touched.append(sequence)
        else:
            sequence.max_gap_s = max(sequence.max_gap_s, self._run_between_s(sequence.last_token_s, now_s))
        sequence.last_token_s = now_s
        if sequence.generated >= sequence.output_tokens:
            if touched and touched[-1] is sequence:
                touched.pop()
            self._finish(sequence, now_s, touched)
            return
        self._decoding.join(sequence, self._step)

    # Leaving ----------------------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        sequence.state = State.FINISHED
        self._drop(sequence, now_s)
        touched.append(sequence)

    def _drop(self, sequence: Sequence, now_s: float) -> None:
        del self._running[sequence]
        self._release(sequence)
        sequence.ended_s = now_s

    def _release(self, sequence: Sequence) -> None:
        """Free a sequence's blocks; full ones, generated tokens included, stay in the prefix cache."""
        lease = sequence.lease
        assert lease is not None
        if sequence.generated:
            lease.keys, lease.ends = sequence.path_keys, sequence.path_ends
            self.cache.fill(lease, sequence.computed)
        self.cache.release(lease)
        sequence.lease = None

    def _preempt_newest(self, now_s: float) -> None:
        """Recompute preemption: the newest sequence loses its blocks and goes back to the head of the queue."""
        sequence = next(reversed(self._running))
        self.counters.preemptions += 1
        self._leave_batch(sequence, now_s)
        del self._running[sequence]
        self._release(sequence)
        sequence.state = State.QUEUED
        sequence.target = sequence.prompt_tokens + sequence.generated
        sequence.computed = 0
        self._waiting.appendleft(sequence)
        self._n_waiting += 1
        self.waiting_tokens += sequence.prompt_tokens

    def _leave_batch(self, sequence: Sequence, now_s: float) -> None:
        if sequence.state == State.DECODE:
            self._decoding.leave(sequence, self._step, now_s)
        else:
            self._prefilling.remove(sequence)

    def _apply_cancels(self, now_s: float, touched: list[Sequence]) -> None:
        while self._cancels and self._cancels[0][0] <= now_s:
            _, sequence = self._cancels.popleft()
            if sequence.state == State.QUEUED:
                if sequence in self._inbox:
                    self._inbox.remove(sequence)
                else:
                    self._n_waiting -= 1
                self.waiting_tokens -= sequence.prompt_tokens
                sequence.ended_s = now_s
            elif sequence.state in (State.PREFILL, State.DECODE):
                self._leave_batch(sequence, now_s)
                self._drop(sequence, now_s)
            else:
                continue
            sequence.state = State.CANCELLED
            if sequence not in touched:  # it may have got its first token at this very boundary
                touched.append(sequence)

    # Small things -----------------------------------------------------------------------------------------------------

    def _run_between_s(self, from_s: float, to_s: float) -> float:
        """Seconds of the run between two of the engine's own times."""
        return to_s - from_s if self.pace is None else self.pace.run_s(to_s) - self.pace.run_s(from_s)

    def _open_inbox(self, now_s: float) -> None:
        inbox = self._inbox
        while inbox and inbox[0].ready_s <= now_s:
            self._waiting.append(inbox.popleft())
            self._n_waiting += 1

    def _insert_by_ready(self, sequence: Sequence) -> None:
        position = bisect_right(list(self._inbox), sequence.ready_s, key=lambda s: s.ready_s)
        self._inbox.insert(position, sequence)

    def _refuse(self, sequence: Sequence, status: int) -> int:
        sequence.state = State.REFUSED
        self.counters.refusals += 1
        return status
