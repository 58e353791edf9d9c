"""Runs one engine by the event loop's clock, and says which tokens are out when. It knows no HTTP and no text.

It is rung at the end of each step while anybody wants tokens as they come, else at the engine's next event, or a little earlier
(`Turns` says why). A late timer does not bend the engine's time line: what was due by now is done at the times it was due.
"""

import asyncio
from typing import Protocol

from replicas.engine import Engine
from replicas.profile import EngineProfile
from replicas.sequence import Sequence, State
from replicas.served.turns import INF, Turns

_ROUNDING_S = 1e-9  # a step that ends now has ended
_CHUNK_S, _NEWS = 1e-5, 0.05  # what a chunk takes at first; the weight of the latest step in what is known of it


class Listener(Protocol):
    """Who waits for a sequence. `streaming`: it wants every token, not only the end; `sent` counts those that it was told of,
    `scheduled_s` is when the engine took the sequence up, `first_s` when its first token was due."""

    streaming: bool
    sent: int
    scheduled_s: float | None
    first_s: float | None

    def on_first_token(self, now_s: float) -> None: ...

    def on_tokens(self, generated: int) -> None: ...

    def on_end(self, now_s: float) -> None: ...


class LagMeter(Protocol):
    """Hears by how many seconds each chunk missed the time that its tokens were due."""

    def observe(self, value: float) -> None: ...

    def observe_all(self, values: list[float]) -> None: ...


class WallClock:
    """Times are seconds on the event loop's clock since `epoch_s`, which is the engine's own time 0.

    The own time runs at `speed` (1; slower or 0 in a fault), so a paused engine stands still wherever it is.
    """

    def __init__(self, profile: EngineProfile, epoch_s: float, lags: LagMeter, turns: Turns) -> None:
        self.engine = Engine(profile)
        self._lags, self._turns = lags, turns
        self._loop = asyncio.get_running_loop()
        self._epoch_s = epoch_s
        self._speed, self._anchor_s, self._anchor_own_s = 1.0, 0.0, 0.0
        self._listeners: dict[Sequence, Listener] = {}
        self._streaming: dict[Sequence, Listener] = {}
        self._own_s = 0.0  # the latest own time that the engine has heard of
        self._due_s = INF  # what is next to do
        self._chunk_s = _CHUNK_S

    def now_s(self) -> float:
        return self._loop.time() - self._epoch_s

    def own_s(self) -> float:
        """The engine's own time, which never goes back."""
        return max(self._own_s, self._anchor_own_s + (self.now_s() - self._anchor_s) * self._speed)

    def generated(self, sequence: Sequence) -> int:
        """Tokens that a sequence has put out by now."""
        return self.engine.generated(sequence, self.own_s() + _ROUNDING_S)

    def running_tokens(self) -> int:
        """Tokens put out so far by all that is not over."""
        return sum(self.generated(sequence) for sequence in self._listeners)

    @property
    def open(self) -> int:
        """Sequences that somebody waits for."""
        return len(self._listeners)

    # Inputs -----------------------------------------------------------------------------------------------------------

    def submit(self, sequence: Sequence, listener: Listener, delay_s: float) -> int:
        """The HTTP status that the engine answers: 200, or a refusal."""
        self.catch_up()
        status = self.engine.submit(sequence, self.own_s(), delay_s)
        if status == 200:
            self._listeners[sequence] = listener
            self._set_timer()
        return status

    def cancel(self, sequence: Sequence) -> None:
        """Nobody waits for it any more; the engine hears of it after its lag."""
        self.catch_up()
        if self._listeners.pop(sequence, None) is None:
            return
        self._streaming.pop(sequence, None)
        self.engine.cancel(sequence, self.own_s())
        self._set_timer()

    def set_speed(self, speed: float) -> None:
        """From now on the engine's own time runs `speed` times as fast as the clock (0: it stands still)."""
        self.catch_up()
        self._anchor_own_s, self._anchor_s = self.own_s(), self.now_s()
        self._speed = speed
        self._set_timer()

    def restart(self) -> list[Listener]:
        """A cold engine in place of the old one, with its counters; returns those whose sequences are lost."""
        lost, counters = list(self._listeners.values()), self.engine.counters
        self._listeners.clear()
        self._streaming.clear()
        self.engine = Engine(self.engine.profile)
        self.engine.counters = counters
        self._set_timer()
        return lost

    def stop(self) -> None:
        """No more steps: the replica is going."""
        self._turns.set(self, INF, 0.0)

    # Time passes ------------------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Its turn has come: what is due next is due now."""
        self._catch_up(max(self.now_s(), self._due_s))

    def catch_up(self) -> None:
        """Do what was due by now, and tell those who wait."""
        now_s = self.now_s()
        if now_s >= self._due_s:
            self._catch_up(now_s)

    def _catch_up(self, now_s: float) -> None:
        due_s, engine = self._due_s, self.engine
        own_s = self._own_s = max(self._own_s, self._anchor_own_s + (now_s - self._anchor_s) * self._speed)
        over: list[tuple[float, Listener]] = []
        while (event_s := engine.next_s) <= own_s + _ROUNDING_S:
            at_s = self._anchor_s + (event_s - self._anchor_own_s) / self._speed
            for sequence in engine.on_wake(event_s):
                self._note(sequence, at_s, over)
            if engine.prefills:
                self._note_scheduled(at_s)
        self._tell_tokens(own_s + _ROUNDING_S, due_s)
        self._set_timer()
        for at_s, listener in over:
            listener.on_end(at_s)
            if listener.streaming:
                self._lags.observe(abs(self.now_s() - due_s))

    def _tell_tokens(self, own_s: float, due_s: float) -> None:
        """Tell all that stream what is out by the engine's own `own_s`. All that decode have made the same steps since they
        joined, so the engine is asked once."""
        time, due_at_s = self._loop.time, due_s + self._epoch_s
        began_s = time()
        steps: int | None = None
        lags: list[float] = []
        for sequence, listener in self._streaming.items():
            tokens = sequence.generated
            if sequence.state == State.DECODE:
                if steps is None:
                    steps = self.engine.generated(sequence, own_s) - tokens + sequence.join_step
                tokens += steps - sequence.join_step
            if tokens > listener.sent:
                listener.on_tokens(tokens)
                lags.append(abs(time() - due_at_s))
        if lags:
            self._lags.observe_all(lags)
            now_s = time()
            if len(lags) > len(self._streaming) / 2:
                self._chunk_s += _NEWS * ((now_s - began_s) / len(lags) - self._chunk_s)
                self._turns.note((began_s + now_s) / 2 - due_at_s)

    def _note_scheduled(self, at_s: float) -> None:
        for sequence, _ in self.engine.prefills:
            listener = self._listeners.get(sequence)
            if listener is not None and listener.scheduled_s is None:
                listener.scheduled_s = at_s

    def _note(self, sequence: Sequence, at_s: float, over: list[tuple[float, Listener]]) -> None:
        """Something happened to a sequence at `at_s` of the clock."""
        listener = self._listeners.get(sequence)
        if listener is None:
            return  # it was cancelled: nobody waits
        if sequence.first_token_s is not None and listener.first_s is None:
            listener.on_first_token(at_s)
            if listener.streaming:
                self._streaming[sequence] = listener
        if sequence.ended_s is not None:
            del self._listeners[sequence]
            self._streaming.pop(sequence, None)
            over.append((at_s, listener))

    def _set_timer(self) -> None:
        """Something is next to do when a step ends that somebody wants to hear of, or when the engine wakes."""
        engine, jump, chunks = self.engine, self.engine.jump, len(self._streaming)
        own_s = engine.next_s
        if chunks and jump is not None:
            done = jump.steps_by(self.own_s() + _ROUNDING_S) if jump.steps > 1 else 0
            step_s = jump.step_end_s(min(done + 1, jump.steps))
            if own_s < step_s - _ROUNDING_S:
                chunks = 0  # it wakes within a step: no tokens
            else:
                own_s = step_s
        due_s = self._anchor_s + (own_s - self._anchor_own_s) / self._speed if self._speed and own_s < INF else INF
        self._due_s = due_s
        self._turns.set(self, self._epoch_s + due_s, self._chunk_s * chunks)
