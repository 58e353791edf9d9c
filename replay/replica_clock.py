"""An engine's own time against the run's: it stands still in a pause and crawls while slow. It decides no event."""

from bisect import bisect_right
from collections.abc import Sequence
from math import inf, prod

from replicas.engine import Counters, Engine
from replicas.jump import Jump
from replicas.profile import EngineProfile
from replicas.sequence import Sequence as EngineSequence
from workloads.events import Event


class ReplicaClock:
    """Made of the pauses and slow stretches of one replica: overlapping slow factors multiply, and a pause stops them all.

    Piecewise linear and known from the start: a piece begins at a second of the run and at one of the engine's own, and within
    it an own second takes `stretch` of the run's (infinitely many in a pause, where the own time stands still).
    """

    def __init__(self, events: Sequence[Event]) -> None:
        warps = [e for e in events if e.kind in ("pause", "slow")]
        self.warped = bool(warps)
        self._run = [0.0, *sorted({t for e in warps for t in (e.at_s, e.until_s)} - {0.0})]
        self._slowness = [prod(e.factor for e in warps if e.kind == "slow" and _holds(e, t)) for t in self._run]
        paused = [any(e.kind == "pause" and _holds(e, t) for e in warps) for t in self._run]
        self._stretch = [inf if stands else slow for stands, slow in zip(paused, self._slowness, strict=True)]
        self._own = [0.0]
        for began_s, until_s, stretch in zip(self._run, self._run[1:], self._stretch, strict=False):
            self._own.append(self._own[-1] + (until_s - began_s) / stretch)

    def own_s(self, run_s: float) -> float:
        """The engine's own time at a second of the run."""
        i = bisect_right(self._run, run_s) - 1
        return self._own[i] + (run_s - self._run[i]) / self._stretch[i]

    def run_s(self, own_s: float) -> float:
        """The second of the run at which the engine's own time leaves `own_s`: after a pause that holds it there."""
        i = bisect_right(self._own, own_s) - 1
        return self._run[i] + (own_s - self._own[i]) * self._stretch[i]

    def lasting_s(self, own_seconds: float, own_s: float, now_s: float) -> float:
        """What `own_seconds` from now on take of the run; exactly themselves while nothing bends it, so that ties stay ties."""
        piece = bisect_right(self._own, own_s + own_seconds) - 1
        if self._own[piece] <= own_s and self._run[piece] <= now_s:
            return own_seconds * self._stretch[piece]
        return max(0.0, self.run_s(own_s + own_seconds) - now_s)

    def slowness(self, run_s: float) -> float:
        """By how much the engine is slowed down, pauses aside."""
        return self._slowness[bisect_right(self._run, run_s) - 1]

    def longest_step_s(self, jump: Jump) -> float:
        """Seconds of the run that the longest step of a jump takes.

        Steps grow within a jump, so it is the last one before the stretch changes, the one across, or the very last.
        """
        first, last = bisect_right(self._own, jump.began_s), bisect_right(self._own, jump.end_s)
        if first == last:
            return jump.longest_s * self._stretch[first - 1]
        numbers = {jump.steps}
        for border_s in self._own[first:last]:
            done = jump.steps_by(border_s)
            numbers.update(n for n in (done, done + 1) if 1 <= n <= jump.steps)
        return max(self._step_s(jump, n) for n in numbers)

    def _step_s(self, jump: Jump, number: int) -> float:
        began_s, ended_s = (Jump(jump.began_s, n, jump.first_s, jump.slope_s).end_s for n in (number - 1, number))
        return self.run_s(ended_s) - self.run_s(began_s)


def _holds(event: Event, run_s: float) -> bool:
    return event.at_s <= run_s < event.until_s


class ClockedReplica:
    """The part of `Engine` that the virtual-time driver uses, in seconds of the run, where the engine lives in its own.

    Times are translated here and nowhere else; a wake goes to the engine at exactly the own time that it asked for. `kill` puts
    a new engine into `engines`.
    """

    def __init__(self, engines: list[Engine], replica_id: int, events: Sequence[Event]) -> None:
        self._engines, self.replica_id = engines, replica_id
        self._engine = engines[replica_id]
        self._clock = ReplicaClock(events)
        self._run_s = self._own_s = 0.0  # the latest moment that the engine has heard of
        self._set_pace()

    @property
    def profile(self) -> EngineProfile:
        return self._engine.profile

    @property
    def counters(self) -> Counters:
        return self._engine.counters

    @property
    def waiting(self) -> int:
        return self._engine.waiting

    @property
    def running(self) -> int:
        return self._engine.running

    @property
    def next_s(self) -> float:
        """When `on_wake` is due; never before what was heard last, whatever rounding says."""
        own_s = self._engine.next_s
        return max(self._clock.run_s(own_s), self._run_s) if own_s < inf else inf

    def submit(self, sequence: EngineSequence, now_s: float, delay_s: float = 0.0) -> int:
        status = self._engine.submit(sequence, self._hear(now_s), delay_s)
        sequence.arrived_s = now_s  # the engine only tells its queue's age by it
        return status

    def cancel(self, sequence: EngineSequence, now_s: float) -> None:
        self._engine.cancel(sequence, self._hear(now_s))

    def fetched(self, sequence: EngineSequence, now_s: float) -> None:
        self._engine.fetched(sequence, self._hear(now_s))

    def on_wake(self, now_s: float) -> list[EngineSequence]:
        self._run_s, self._own_s = now_s, self._engine.next_s
        return self._engine.on_wake(self._own_s)

    def kill(self, now_s: float) -> None:
        """The engine and all that is in it is gone; a cold one, with the counters of the old, stands in its place."""
        self._hear(now_s)
        counters, log = self._engine.counters, self._engine.cache_log
        self._engine = self._engines[self.replica_id] = Engine(self._engine.profile)
        self._engine.counters = counters
        if log is not None:
            log.clear()
            self._engine.tell(log)
        self._set_pace()

    def flush(self) -> int:
        """Tokens that the prefix cache forgot."""
        return self._engine.cache.flush() * self._engine.profile.block_tokens

    # What others may read ----------------------------------------------------------------------------------------------

    def own_s(self, now_s: float) -> float:
        """The engine's own time: after all that it has heard of, and not beyond what it still has to do."""
        return min(max(self._clock.own_s(now_s), self._own_s), self._engine.next_s)

    def run_seconds(self, own_seconds: float, now_s: float) -> float:
        """What the engine's next `own_seconds` take of the run."""
        return self._clock.lasting_s(own_seconds, self.own_s(now_s), now_s)

    def kv_used(self, now_s: float) -> float:
        return self._engine.kv_used(self.own_s(now_s))

    def generated(self, sequence: EngineSequence, now_s: float) -> int:
        return self._engine.generated(sequence, self.own_s(now_s))

    def queue_age_s(self, now_s: float) -> float:
        return self._engine.queue_age_s(now_s)

    def latency_s(self, now_s: float) -> float:
        """What a probe is told: the engine knows how slow it is, not when a pause will end."""
        return self._engine.latency_s(self.own_s(now_s)) * self._clock.slowness(now_s)

    def _hear(self, now_s: float) -> float:
        self._run_s, self._own_s = now_s, self.own_s(now_s)
        return self._own_s

    def _set_pace(self) -> None:
        if self._clock.warped:
            self._engine.pace = self._clock
