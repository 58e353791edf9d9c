"""The simulated engine: one continuous-batching replica as a sans-IO state machine. It knows no router, client or clock.

What all flavours share is here: requests come in through a front end, a step takes the profile's time, sequences put out
tokens, finish, are cancelled, wait too long. What a step consists of is its scheduler's (`replicas.schedulers`). Between two
events that change the batch, decode steps are an arithmetic series and are jumped over in closed form.
"""

from bisect import bisect_right
from collections import deque
from typing import Protocol

from replicas.front_end import INF as INF
from replicas.front_end import FrontEnd
from replicas.gauges import Gauges
from replicas.jump import Jump
from replicas.profile import EngineProfile
from replicas.schedulers import SCHEDULERS
from replicas.schedulers.books import Books
from replicas.schedulers.books import Counters as Counters
from replicas.sequence import Sequence, State
from workloads.draws import purpose_id, uniform

_CANCEL_LOSS = purpose_id("engine-cancel-loss")


class Pace(Protocol):
    """How the run's time passes against the engine's own, where the two differ (a replica that is paused or slowed down)."""

    def run_s(self, own_s: float) -> float: ...

    def longest_step_s(self, jump: Jump) -> float: ...


class Engine(Gauges):
    """One replica. Call `on_wake` at `next_s`; `submit`, `cancel` and `fetched` whenever; each may change `next_s`.

    `on_wake` returns the sequences something happened to: got their first token, finished, were cancelled or dropped (see
    `state`). All times are its own; where the run's differ, whoever drives it sets `pace`, and a sequence's `max_gap_s` is the
    run's. Raises ValueError when the KV pool cannot hold one sequence of `context_tokens`.
    """

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        scheduler = SCHEDULERS[profile.scheduler]
        self.cache = scheduler.new_cache(profile)
        self.next_s = INF
        self.pace: Pace | None = None
        self._books = Books(profile, self.cache)
        self._scheduler = scheduler(self._books)
        self._inbox: deque[Sequence] = deque()  # accepted by the front end, not yet seen by the scheduler
        self._cancels: deque[tuple[float, Sequence]] = deque()
        self._deadlines: deque[tuple[float, Sequence]] = deque()  # when who has waited too long, in order of arrival
        self._pins: dict[Sequence, float] = {}  # prefilled for another replica; until when their KV is kept
        self._front = FrontEnd(profile.frontend_chunk_s) if profile.frontend_chunk_s or profile.steps_ahead else None
        self._scheduled_s = 0.0  # when the step under way was scheduled; where no step is scheduled ahead, when it began
        self._launched_s = 0.0  # when the host had launched it
        self._jump: Jump | None = None  # the steps under way; None while idle
        self._stalled = False  # decodes have stood still since `_books.decoded_s`

    @property
    def counters(self) -> Counters:
        return self._books.counters

    @counters.setter
    def counters(self, counters: Counters) -> None:
        self._books.counters = counters

    # Inputs -----------------------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_s: float, delay_s: float = 0.0) -> int:
        """Hand a sequence in; returns 200, or the HTTP status of a refusal (400 too long or empty, 503 queue full)."""
        scheduler = self._scheduler
        status = scheduler.check(sequence)
        if status == 200 and self.profile.max_queued is not None and scheduler.is_full(self.waiting):
            status = 503
        if status != 200:
            sequence.state = State.REFUSED
            self._books.counters.refusals += 1
            return status
        sequence.arrived_s = now_s
        sequence.ready_s = now_s + self.profile.frontend_delay_s(sequence.prompt_tokens, sequence.try_id) + delay_s
        self._books.waiting_tokens += sequence.prompt_tokens
        if self._inbox and sequence.ready_s < self._inbox[-1].ready_s:
            self._insert_by_ready(sequence)
        else:
            self._inbox.append(sequence)
        if self._jump is None:
            self.next_s = min(self.next_s, self._inbox[0].ready_s)
        elif not scheduler.blocked:
            self._cut(self._jump, sequence.ready_s, arrival=True)
        return 200

    def cancel(self, sequence: Sequence, now_s: float) -> None:
        """The client hung up: takes effect at the first step boundary after `cancel_lag_s`, or never (`cancel_loss`)."""
        loss = self.profile.cancel_loss
        if loss and uniform(_CANCEL_LOSS, sequence.try_id) < loss:
            self._books.counters.lost_cancels += 1
            return
        effective_s = now_s + self.profile.cancel_lag_s
        self._cancels.append((effective_s, sequence))
        if self._jump is None:
            self.next_s = min(self.next_s, effective_s)
        elif sequence.state <= State.DECODE:
            self._cut(self._jump, effective_s)

    def fetched(self, sequence: Sequence, now_s: float) -> None:
        """The replica that decodes has fetched this prefill's KV: it need not be kept any more."""
        if self._pins.pop(sequence, None) is None:
            return
        self._scheduler.release(sequence)
        if self._jump is None:
            self.next_s = min(self.next_s, now_s)
        elif self._books.n_waiting:
            self._cut(self._jump, now_s)

    def on_wake(self, now_s: float) -> list[Sequence]:
        """Finish the step that ends now, if any, and begin the next one; returns the sequences something happened to."""
        front, jump = self._front, self._jump
        touched: list[Sequence] = []
        if front is not None and jump is not None and now_s < jump.end_s:
            return self._relay(front, touched, now_s)
        scheduled_s = now_s
        if jump is not None:
            if self.profile.steps_ahead:
                scheduled_s = max(jump.last_began_s, self._launched_s)
            self._end_steps(jump, now_s, touched)
        if self._cancels:
            self._apply_cancels(now_s, touched)
        if self._inbox:
            self._open_inbox(scheduled_s)
        if scheduled_s < now_s and not (self._books.running or self._books.n_waiting):  # nothing is under way any more
            scheduled_s = now_s
            self._open_inbox(now_s)
        self._scheduled_s = scheduled_s
        if self._deadlines:
            self._drop_overdue(now_s, touched)
        if self._pins:
            self._expire_pins(now_s)
        self._begin_step(now_s, touched)
        return touched if front is None else self._relay(front, touched, now_s)

    # One step ---------------------------------------------------------------------------------------------------------

    def _relay(self, front: FrontEnd, touched: list[Sequence], now_s: float) -> list[Sequence]:
        """What the front end has sent by now, and what it need not send; the rest it holds."""
        told_s = now_s if self._jump is None else max(now_s, self._launched_s)
        told = front.deliver(now_s) + front.hold(touched, now_s, told_s, self.running)
        self.next_s = min(front.due_s, self.next_s if self._jump is None else self._jump.end_s)
        return told

    def _begin_step(self, now_s: float, touched: list[Sequence]) -> None:
        books = self._books
        books.chunks = []
        if books.running or books.n_waiting:
            self._scheduler.compose(now_s)
            if self._scheduler.dropped:
                self._drop_unfit(now_s, touched)
            if books.chunks or books.batch.size:
                self._plan_steps(now_s)
                return
        else:
            self._scheduler.on_idle()
        self._jump = None
        self.next_s = self._first_input_s()

    def _first_input_s(self) -> float:
        """When something happens to an engine that has nothing to run."""
        first_s = self._inbox[0].ready_s if self._inbox else INF
        if self._cancels:
            first_s = min(first_s, self._cancels[0][0])
        return min(first_s, self._first_timer_s()) if self._books.n_waiting else first_s

    def _first_timer_s(self) -> float:
        """When the first of those that wait has waited too long, or the first pin that they may be waiting for expires."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][1].state != State.QUEUED or deadlines[0][1].admitted):
            deadlines.popleft()
        first_s = deadlines[0][0] if deadlines else INF
        return min(first_s, next(iter(self._pins.values()))) if self._pins else first_s

    def _plan_steps(self, now_s: float) -> None:
        """Fix how long this step takes and, when nothing can change the batch, how many steps to jump over."""
        books, scheduler, step = self._books, self._scheduler, self.profile.step
        batch, chunks = books.batch, books.chunks
        seconds = step.base_s
        if scheduler.decodes:
            seconds = step.base_s + step.sequence_s * batch.size + step.kv_s * batch.kv_tokens
        elif batch.size:
            self._stalled = True
        self._launched_s = self._scheduled_s
        if chunks:
            size, new = batch.size if scheduler.decodes else 0, 0
            seconds += step.prefill_base_s + step.prefill_sequence_s * size
            for sequence, chunk in chunks:
                new += chunk
                seconds += step.prefill_s * chunk + step.attention_s * chunk * (sequence.computed + chunk / 2)
            launch_s = step.launch_s(new, size)
            self._launched_s += launch_s
            seconds = max(seconds, launch_s - (now_s - self._scheduled_s))
        steps = 1 if chunks or scheduler.single else scheduler.steps_ahead()
        jump = self._jump = Jump(now_s, steps, seconds, step.kv_s * batch.size)
        self.next_s = jump.end_s
        if steps > 1:
            if self._inbox and not scheduler.blocked:
                self._cut(jump, self._inbox[0].ready_s, arrival=True)
            for effective_s, sequence in self._cancels:
                if sequence.state <= State.DECODE:
                    self._cut(jump, effective_s)
                    break
            if books.n_waiting and (self._deadlines or self._pins):
                self._cut(jump, self._first_timer_s())

    def _cut(self, jump: Jump, at_s: float, arrival: bool = False) -> None:
        """End at the first boundary at or after `at_s`; for an arrival one later where the step after that one is scheduled
        already."""
        steps = jump.steps
        jump.cut(at_s)
        if arrival and self.profile.steps_ahead and at_s > jump.began_s:
            jump.steps = min(jump.steps + 1, steps)
        self.next_s = jump.end_s if self._front is None else min(jump.end_s, self._front.due_s)

    def _end_steps(self, jump: Jump, now_s: float, touched: list[Sequence]) -> None:
        books, scheduler = self._books, self._scheduler
        books.counters.steps += jump.steps
        if scheduler.decodes:
            batch = books.batch
            if batch.size:
                if jump.steps > 1:  # the first step's blocks were taken when it began
                    scheduler.take_ahead(jump.steps)
                if self._stalled:
                    self._note_stall(jump)
                longest_s = jump.longest_s if self.pace is None else self.pace.longest_step_s(jump)
                batch.advance(books.step, jump.steps, longest_s)
                books.decoded_s = now_s
            books.step += jump.steps
            for sequence in batch.pop_finished(books.step):
                batch.leave(sequence, books.step, now_s)
                books.gone += 1
                self._finish(sequence, now_s, touched)
        for sequence, chunk in books.chunks:
            sequence.computed += chunk
            sequence.prefilled_tokens += chunk
            if scheduler.caches_when_computed:
                scheduler.on_computed(sequence)
            if sequence.computed == sequence.target:
                self._emit_after_prefill(sequence, now_s, touched)

    def _note_stall(self, jump: Jump) -> None:
        """The first token after prefills that ran alone: the gap in front of it counts from the last decode, or from the own
        first token where that came later."""
        books, first_s = self._books, jump.began_s + jump.first_s
        self._stalled = False
        for sequence in books.batch.note_stall(books.step, self._run_between_s(books.decoded_s, first_s)):
            sequence.max_gap_s = max(sequence.max_gap_s, self._run_between_s(sequence.last_token_s, first_s))

    def _emit_after_prefill(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        """The step that completes a prefill puts out one token."""
        self._books.prefilling.remove(sequence)
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
            self._books.shrunk = True
            self._finish(sequence, now_s, touched)
            return
        self._books.batch.join(sequence, self._books.step)

    # Leaving ----------------------------------------------------------------------------------------------------------

    def _finish(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        sequence.state = State.FINISHED
        del self._books.running[sequence]
        if sequence.stage == "prefill" and self.profile.kv_pin_timeout_s:
            self._pins[sequence] = now_s + self.profile.kv_pin_timeout_s
        else:
            self._scheduler.release(sequence)
        sequence.ended_s = now_s
        touched.append(sequence)

    def _apply_cancels(self, now_s: float, touched: list[Sequence]) -> None:
        while self._cancels and self._cancels[0][0] <= now_s:
            _, sequence = self._cancels.popleft()
            if sequence.state == State.QUEUED:
                self._unqueue(sequence)
            elif sequence.state in (State.PREFILL, State.DECODE):
                if sequence.state == State.DECODE:
                    self._books.gone += 1
                else:
                    self._books.shrunk = True
                self._books.leave(sequence)
                self._scheduler.release(sequence)
            else:
                continue
            self._end(sequence, State.CANCELLED, now_s, touched)

    def _drop_overdue(self, now_s: float, touched: list[Sequence]) -> None:
        """Who has waited `queue_timeout_s` without ever being scheduled is dropped with 503 (SGLang's waiting timeout)."""
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, sequence = self._deadlines.popleft()
            if sequence.state == State.QUEUED and not sequence.admitted:
                self._unqueue(sequence)
                sequence.status = 503
                self._books.counters.queue_timeouts += 1
                self._end(sequence, State.DROPPED, now_s, touched)

    def _drop_unfit(self, now_s: float, touched: list[Sequence]) -> None:
        """Who does not fit into memory even alone is dropped with 500, as SGLang does it."""
        for sequence in self._scheduler.dropped:
            sequence.status = 500
            self._end(sequence, State.DROPPED, now_s, touched)
        self._scheduler.dropped.clear()

    def _expire_pins(self, now_s: float) -> None:
        """Nobody has fetched these in time: the request is dead."""
        for sequence in [s for s, until_s in self._pins.items() if until_s <= now_s]:
            del self._pins[sequence]
            self._scheduler.release(sequence)
            self._books.counters.expired_pins += 1

    def _unqueue(self, sequence: Sequence) -> None:
        """A waiting sequence goes; its scheduler's queue skips it."""
        if sequence in self._inbox:
            self._inbox.remove(sequence)
        else:
            self._books.n_waiting -= 1
        self._books.waiting_tokens -= sequence.prompt_tokens

    def _end(self, sequence: Sequence, state: State, now_s: float, touched: list[Sequence]) -> None:
        sequence.state = state
        sequence.ended_s = now_s
        if sequence not in touched:  # it may have got its first token at this very boundary
            touched.append(sequence)

    # Small things -----------------------------------------------------------------------------------------------------

    def _run_between_s(self, from_s: float, to_s: float) -> float:
        """Seconds of the run between two of the engine's own times."""
        return to_s - from_s if self.pace is None else self.pace.run_s(to_s) - self.pace.run_s(from_s)

    def _open_inbox(self, now_s: float) -> None:
        inbox, books, timeout_s = self._inbox, self._books, self.profile.queue_timeout_s
        while inbox and inbox[0].ready_s <= now_s:
            sequence = inbox.popleft()
            self._scheduler.waiting.push(sequence)
            books.n_waiting += 1
            if timeout_s is not None:
                self._deadlines.append((sequence.ready_s + timeout_s, sequence))

    def _insert_by_ready(self, sequence: Sequence) -> None:
        position = bisect_right(list(self._inbox), sequence.ready_s, key=lambda s: s.ready_s)
        self._inbox.insert(position, sequence)
