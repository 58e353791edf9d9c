"""The simulated engine: one continuous-batching replica as a sans-IO state machine. It knows no router, client or clock.

What all flavours share is here: requests come in through a front end, a step takes the profile's time, sequences put out
tokens and finish; who leaves earlier is in `replicas.departures`. What a step consists of is its scheduler's
(`replicas.schedulers`). Between two events that change the batch, decode steps are an arithmetic series and are jumped over in
closed form. A wake is the hot path of a simulation: it asks what there is to do before it calls who does it.
"""

from bisect import bisect_right
from collections import deque
from operator import attrgetter

from replicas.cache_events import CacheLog, telling
from replicas.departures import Departures
from replicas.front_end import INF as INF
from replicas.front_end import FrontEnd
from replicas.gauges import Gauges
from replicas.host import Host
from replicas.jump import Jump, Pace
from replicas.prefix_cache import PrefixCache
from replicas.profile import EngineProfile
from replicas.radix_cache import RadixCache
from replicas.schedulers import SCHEDULERS
from replicas.schedulers.books import Books
from replicas.schedulers.books import Counters as Counters
from replicas.schedulers.scheduler import Scheduler
from replicas.sequence import DECODE, FINISHED, REFUSED, Sequence

_READY_S = attrgetter("ready_s")


class Engine(Gauges):
    """One replica. Call `on_wake` at `next_s`; `submit`, `cancel` and `fetched` whenever; each may change `next_s`.

    `on_wake` returns the sequences something happened to: got their first token, finished, were cancelled or dropped (see
    `state`). All times are its own; where the run's differ, whoever drives it sets `pace`, and a sequence's `max_gap_s` is the
    run's. Raises ValueError when the KV pool cannot hold one sequence of `context_tokens`.
    """

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile
        self.cache_log: CacheLog | None = None
        self.pace: Pace | None = None
        self._set_up(SCHEDULERS[profile.scheduler].new_cache(profile))

    def tell(self, log: CacheLog) -> None:
        """Keep this log of what the prefix cache holds; only before the first request."""
        self.cache_log = log
        self._set_up(telling(self.cache, log))

    def _set_up(self, cache: PrefixCache | RadixCache) -> None:
        profile = self.profile
        self.cache = cache
        self.next_s = INF
        self._books = Books(profile, self.cache)
        self._scheduler = SCHEDULERS[profile.scheduler](self._books)
        self._inbox: deque[Sequence] = deque()  # accepted by the front end, not yet seen by the scheduler
        self._departures = Departures(self._books, self._scheduler, self._inbox)
        self._front = FrontEnd(profile.frontend_chunk_s) if profile.frontend_chunk_s or profile.steps_ahead else None
        self._ahead = profile.steps_ahead  # steps that the host schedules ahead
        self._host = Host(profile.step)
        self._jump: Jump | None = None  # the steps under way; None while idle

    @property
    def counters(self) -> Counters:
        return self._books.counters

    @counters.setter
    def counters(self, counters: Counters) -> None:
        self._books.counters = counters

    # Inputs -----------------------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, now_s: float, delay_s: float = 0.0) -> int:
        """Hand a sequence in; returns 200, or the HTTP status of a refusal (400 too long or empty, 503 queue full)."""
        profile, scheduler, jump = self.profile, self._scheduler, self._jump
        status = scheduler.check(sequence)
        if status == 200 and profile.max_queued is not None and scheduler.is_full(self.waiting):
            status = 503
        if status != 200:
            sequence.state = REFUSED
            self._books.counters.refusals += 1
            return status
        sequence.arrived_s = now_s
        frontend_s = profile.frontend_delay_s(sequence.prompt_tokens, sequence.try_id)
        if jump is not None and profile.frontend_chunk_s:
            assert self._front is not None
            frontend_s = self._front.slowed_s(frontend_s, len(self._books.running), jump, now_s)
        sequence.ready_s = ready_s = now_s + frontend_s + delay_s
        self._books.waiting_tokens += sequence.prompt_tokens
        inbox = self._inbox
        if inbox and ready_s < inbox[-1].ready_s:
            inbox.insert(bisect_right(inbox, ready_s, key=_READY_S), sequence)
        else:
            inbox.append(sequence)
        if jump is None:
            self.next_s = min(self.next_s, inbox[0].ready_s)
        elif jump.steps > 1 and not scheduler.blocked:
            self._cut(jump, ready_s, arrival=True)
        return 200

    def cancel(self, sequence: Sequence, now_s: float) -> None:
        """The client hung up: takes effect at the first step boundary after `cancel_lag_s`, or never (`cancel_loss`)."""
        effective_s = self._departures.cancel(sequence, now_s)
        if effective_s is None:
            return
        if self._jump is None:
            self.next_s = min(self.next_s, effective_s)
        elif sequence.state <= DECODE:
            self._cut(self._jump, effective_s)

    def fetched(self, sequence: Sequence, now_s: float) -> None:
        """The replica that decodes has fetched this prefill's KV: it need not be kept any more."""
        if self._departures.pins.pop(sequence, None) is None:
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
            touched = front.deliver(now_s)
            self.next_s = jump.end_s if jump.end_s < front.due_s else front.due_s
            return touched
        departures, inbox, scheduled_s = self._departures, self._inbox, now_s
        if jump is not None:
            if self._ahead:
                scheduled_s = jump.began_s if jump.steps == 1 else jump.last_began_s
                if scheduled_s < self._host.launched_s:
                    scheduled_s = self._host.launched_s
            self._end_steps(jump, now_s, touched)
        if departures.cancels:
            departures.apply_cancels(now_s, touched)
        if inbox and inbox[0].ready_s <= scheduled_s:
            self._open_inbox(scheduled_s)
        if scheduled_s < now_s and not (self._books.running or self._books.n_waiting):  # nothing is under way any more
            scheduled_s = now_s
            self._open_inbox(now_s)
        self._host.scheduled_s = scheduled_s
        if departures.deadlines:
            departures.drop_overdue(now_s, touched)
        if departures.pins:
            departures.expire_pins(now_s)
        self._begin_step(now_s, touched)
        return touched if front is None else self._relay(front, touched, now_s)

    # One step ---------------------------------------------------------------------------------------------------------

    def _relay(self, front: FrontEnd, touched: list[Sequence], now_s: float) -> list[Sequence]:
        """What the front end has sent by now, and what it need not send; the rest it holds."""
        jump = self._jump
        told = front.deliver(now_s) if front.due_s <= now_s else []
        if touched:
            told_s = now_s if jump is None or self._host.launched_s <= now_s else self._host.launched_s
            told += front.hold(touched, now_s, told_s, len(self._books.running))
        next_s = self.next_s if jump is None else jump.end_s
        self.next_s = next_s if next_s < front.due_s else front.due_s
        return told

    def _open_inbox(self, now_s: float) -> None:
        inbox, books, timeout_s = self._inbox, self._books, self.profile.queue_timeout_s
        while inbox and inbox[0].ready_s <= now_s:
            sequence = inbox.popleft()
            self._scheduler.waiting.push(sequence)
            books.n_waiting += 1
            if timeout_s is not None:
                self._departures.deadlines.append((sequence.ready_s + timeout_s, sequence))

    def _begin_step(self, now_s: float, touched: list[Sequence]) -> None:
        books, scheduler = self._books, self._scheduler
        books.chunks = []
        if books.running or books.n_waiting:
            scheduler.compose(now_s)
            if scheduler.dropped:
                self._departures.drop_unfit(now_s, touched)
            if books.chunks or books.batch.size:
                self._plan_steps(books, scheduler, now_s)
                return
        else:
            scheduler.on_idle()
        self._jump = None
        self.next_s = self._first_input_s()

    def _first_input_s(self) -> float:
        """When something happens to an engine that has nothing to run."""
        departures = self._departures
        first_s = self._inbox[0].ready_s if self._inbox else INF
        if departures.cancels:
            first_s = min(first_s, departures.cancels[0][0])
        return min(first_s, departures.first_timer_s()) if self._books.n_waiting else first_s

    def _plan_steps(self, books: Books, scheduler: Scheduler, now_s: float) -> None:
        """Fix how long this step takes and, when nothing can change the batch, how many steps to jump over."""
        step, chunks, size, kv_tokens = self.profile.step, books.chunks, books.batch.size, books.batch.kv_tokens
        slope_s = step.kv_s * size
        if not scheduler.decodes:
            if size:
                books.stalled = True
            size = kv_tokens = 0
        seconds = step.base_s + step.sequence_s * size + step.kv_s * kv_tokens
        host, begun_s, steps = self._host, now_s, 1
        if chunks:
            new, attended = 0, 0.0
            for sequence, chunk in chunks:
                new += chunk
                attended += chunk * (sequence.computed + chunk / 2)
            seconds = step.gpu_s(seconds, new, attended, size)
            first, serial = chunks[0][0].try_id, scheduler.serial_prefills
            seconds = host.prefills_s(now_s, new, len(chunks), size, seconds, first, serial)
        else:
            begun_s, seconds, slope_s = host.decodes(now_s, size, seconds, slope_s)
            if not (scheduler.single or host.head_start):
                steps = scheduler.steps_ahead()
        jump = self._jump = Jump(begun_s, steps, seconds, slope_s)
        self.next_s = jump.end_s
        if steps > 1:
            self._cut_at_inputs(jump)

    def _cut_at_inputs(self, jump: Jump) -> None:
        """End a new jump early for what is known to happen during it."""
        departures = self._departures
        if self._inbox and not self._scheduler.blocked:
            self._cut(jump, self._inbox[0].ready_s, arrival=True)
        if departures.cancels:
            self._cut(jump, departures.first_cancel_s())
        if self._books.n_waiting and (departures.deadlines or departures.pins):
            self._cut(jump, departures.first_timer_s())

    def _cut(self, jump: Jump, at_s: float, arrival: bool = False) -> None:
        """End at the first boundary at or after `at_s`; for an arrival one later where the step after that one is scheduled
        already."""
        jump.cut(at_s, self._ahead if arrival and at_s > jump.began_s else 0)
        self.next_s = jump.end_s if self._front is None else min(jump.end_s, self._front.due_s)

    def _end_steps(self, jump: Jump, now_s: float, touched: list[Sequence]) -> None:
        books, scheduler, steps = self._books, self._scheduler, jump.steps
        books.counters.steps += steps
        if scheduler.decodes:
            batch = books.batch
            if batch.size:
                if steps > 1:  # the first step's blocks were taken when it began
                    scheduler.take_ahead(steps)
                if books.stalled:
                    self._note_stall(jump)
                longest_s = jump.longest_s if self.pace is None else self.pace.longest_step_s(jump)
                batch.advance(books.step, steps, longest_s)
                books.decoded_s = now_s
            books.step += steps
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
        books.stalled = False
        for sequence in books.batch.note_stall(books.step, self._run_between_s(books.decoded_s, first_s)):
            sequence.max_gap_s = max(sequence.max_gap_s, self._run_between_s(sequence.last_token_s, first_s))

    def _emit_after_prefill(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        """The step that completes a prefill puts out one token."""
        books = self._books
        books.prefilling.remove(sequence)
        sequence.generated += 1
        first = sequence.first_token_s is None
        if first:
            sequence.first_token_s = now_s
        else:
            sequence.max_gap_s = max(sequence.max_gap_s, self._run_between_s(sequence.last_token_s, now_s))
        sequence.last_token_s = now_s
        if sequence.generated >= sequence.output_tokens:
            books.shrunk = True
            self._finish(sequence, now_s, touched)
            return
        books.batch.join(sequence, books.step)
        if first:
            touched.append(sequence)

    def _finish(self, sequence: Sequence, now_s: float, touched: list[Sequence]) -> None:
        sequence.state = FINISHED
        sequence.ended_s = now_s
        del self._books.running[sequence]
        if sequence.stage == "prefill" and self.profile.kv_pin_timeout_s:
            self._departures.pins[sequence] = now_s + self.profile.kv_pin_timeout_s
        else:
            self._scheduler.release(sequence)
        touched.append(sequence)

    def _run_between_s(self, from_s: float, to_s: float) -> float:
        """Seconds of the run between two of the engine's own times."""
        return to_s - from_s if self.pace is None else self.pace.run_s(to_s) - self.pace.run_s(from_s)
