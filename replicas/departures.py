"""Who leaves an engine before its end: cancelled, overdue, unfit; and prefills whose KV nobody fetches. It begins no step."""

from collections import deque

from replicas.front_end import INF
from replicas.schedulers.books import Books
from replicas.schedulers.scheduler import Scheduler
from replicas.sequence import CANCELLED, DECODE, DROPPED, PREFILL, QUEUED, Sequence, State
from workloads.draws import purpose_id, uniform

_CANCEL_LOSS = purpose_id("engine-cancel-loss")


class Departures:
    """What is known of who will leave, and the leaving itself. `inbox` holds those that the scheduler has not seen yet."""

    def __init__(self, books: Books, scheduler: Scheduler, inbox: deque[Sequence]) -> None:
        self.profile = books.profile
        self.cancels: deque[tuple[float, Sequence]] = deque()
        self.deadlines: deque[tuple[float, Sequence]] = deque()  # when who has waited too long, in order of arrival
        self.pins: dict[Sequence, float] = {}  # prefilled for another replica; until when their KV is kept
        self._books, self._scheduler, self._inbox = books, scheduler, inbox

    # What will happen

    def cancel(self, sequence: Sequence, now_s: float) -> float | None:
        """The client hung up; returns when that takes effect, None where it never does (`cancel_loss`)."""
        loss = self.profile.cancel_loss
        if loss and uniform(_CANCEL_LOSS, sequence.try_id) < loss:
            self._books.counters.lost_cancels += 1
            return None
        effective_s = now_s + self.profile.cancel_lag_s
        self.cancels.append((effective_s, sequence))
        return effective_s

    def first_cancel_s(self) -> float:
        """When the first cancellation of somebody who is still there takes effect."""
        return next((at_s for at_s, sequence in self.cancels if sequence.state <= DECODE), INF)

    def first_timer_s(self) -> float:
        """When the first of those that wait has waited too long, or the first pin that they may be waiting for expires."""
        deadlines = self.deadlines
        while deadlines and (deadlines[0][1].state is not QUEUED or deadlines[0][1].admitted):
            deadlines.popleft()
        first_s = deadlines[0][0] if deadlines else INF
        return min(first_s, next(iter(self.pins.values()))) if self.pins else first_s

    # What happens; each adds to `touched` whom it happened to

    def apply_cancels(self, now_s: float, touched: list[Sequence]) -> None:
        books = self._books
        while self.cancels and self.cancels[0][0] <= now_s:
            _, sequence = self.cancels.popleft()
            if sequence.state is QUEUED:
                self._unqueue(sequence)
            elif sequence.state is PREFILL or sequence.state is DECODE:
                if sequence.state is DECODE:
                    books.gone += 1
                else:
                    books.shrunk = True
                books.leave(sequence)
                self._scheduler.release(sequence)
            else:
                continue
            _end(sequence, CANCELLED, now_s, touched)

    def drop_overdue(self, now_s: float, touched: list[Sequence]) -> None:
        """Who has waited `queue_timeout_s` without ever being scheduled is dropped with 503 (SGLang's waiting timeout)."""
        while self.deadlines and self.deadlines[0][0] <= now_s:
            _, sequence = self.deadlines.popleft()
            if sequence.state is QUEUED and not sequence.admitted:
                self._unqueue(sequence)
                sequence.status = 503
                self._books.counters.queue_timeouts += 1
                _end(sequence, DROPPED, now_s, touched)

    def drop_unfit(self, now_s: float, touched: list[Sequence]) -> None:
        """Who does not fit into memory even alone is dropped with 500, as SGLang does it."""
        for sequence in self._scheduler.dropped:
            sequence.status = 500
            _end(sequence, DROPPED, now_s, touched)
        self._scheduler.dropped.clear()

    def expire_pins(self, now_s: float) -> None:
        """Nobody has fetched these in time: the request is dead."""
        for sequence in [s for s, until_s in self.pins.items() if until_s <= now_s]:
            del self.pins[sequence]
            self._scheduler.release(sequence)
            self._books.counters.expired_pins += 1

    def _unqueue(self, sequence: Sequence) -> None:
        """A waiting sequence goes; its scheduler's queue skips it."""
        if sequence in self._inbox:
            self._inbox.remove(sequence)
        else:
            self._books.n_waiting -= 1
        self._books.waiting_tokens -= sequence.prompt_tokens


def _end(sequence: Sequence, state: State, now_s: float, touched: list[Sequence]) -> None:
    sequence.state = state
    sequence.ended_s = now_s
    if sequence not in touched:  # it may have got its first token at this very boundary
        touched.append(sequence)
