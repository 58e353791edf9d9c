"""The virtual-time driver: client, router and simulated engines on one event loop, without sleeping. It decides nothing.

Everything that happens at one instant happens in a fixed order (engines by id, router, events, observations, client), so a
seed gives the same rows bit for bit.
"""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any

from replay.cell import Cell
from replay.client import INF
from replay.driver import Driver
from replay.faults import Faults
from replay.kv_news import KvNews
from replay.memory import uncollected
from replay.recorder import Recorder, to_us
from replay.replica_clock import ClockedReplica
from replay.rows import OpenAttempt, ReplicaSample
from replay.truth import PoolTruth
from replicas.engine import Engine
from replicas.profile import EngineProfile
from replicas.sequence import Sequence as EngineSequence
from replicas.sequence import State
from replicas.view import Observation
from routers.policy import Truth
from routers.tries import Try
from workloads.workload import Workload

PROBE_ROUND_TRIP_S = 0.001
CONNECTION_LOST = "connection lost: replica killed"
REFUSALS = {400: "prompt longer than the context", 503: "engine queue full"}
CANCELLED, FINISHED, DROPPED = State.CANCELLED, State.FINISHED, State.DROPPED
DROPS = {500: ("error", "out of KV memory"), 503: ("refused", "engine queue timeout")}


class Served(EngineSequence):
    """A try inside an engine."""

    __slots__ = ("replica_id", "rid", "row")
    replica_id: int
    rid: int
    row: OpenAttempt


class VirtualRun(Driver):
    """One cell in virtual time. `run` returns when nothing is left to happen, or when the drain is over.

    The workload's events are carried out on the way; ValueError for one at a replica that the pool does not have. `watch` is
    called with the second each time the gauges have been sampled: it may `end_by` or `admit_no_more`, and changes nothing else.
    """

    def __init__(
        self,
        cell: Cell,
        workload: Workload,
        profile: EngineProfile,
        recorder: Recorder,
        record_inputs: bool = False,
        watch: Callable[[float], None] | None = None,
    ) -> None:
        self.engines = [Engine(profile) for _ in range(cell.pool.replicas)]
        self._faults = Faults(workload.events, self.engines, cell.seed, self._lose) if workload.events else None
        self._replicas: Sequence[Engine | ClockedReplica] = self._faults.replicas if self._faults else self.engines
        self._engine_next = [INF] * len(self.engines)  # when each is due
        self._live: dict[int, Served] = {}  # by try
        self._pinned: dict[int, Served] = {}  # by rid: prefilled, and its KV not fetched yet
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._max_tokens = cell.max_tokens
        self._watch = watch
        super().__init__(cell, workload, recorder, profile, record_inputs)
        wanted = any(router.policy.wants_kv_events for router in self.routers)
        self._kv_news = KvNews(cell.observation, cell.seed, self.engines, self.routers, self._at) if wanted else None
        if self._faults is not None:
            self._schedule_events(self._faults)
        for router in range(len(self.routers)):
            for replica_id in range(len(self.engines)):
                self._schedule_poll(router, replica_id, 0, cell.observation.first_poll_s(router))
        self._sample_at(0.0)

    @property
    def events_done(self) -> list[dict[str, Any]]:
        """A record an event: when, what, where, and what it hit (see `replay.faults`)."""
        return self._faults.done if self._faults is not None else []

    @property
    def in_engines(self) -> int:
        """Tries that a replica has not ended, whether anybody still waits for them or not."""
        return len(self._live)

    def end_by(self, at_s: float) -> None:
        """The run ends at `at_s` at the latest; what is open then is censored, as at the end of a drain."""
        self._end_s = min(self._end_s, at_s)

    def run(self) -> float:
        """Returns the virtual second at which it ended."""
        with uncollected():
            ended_s = self._run()
        self._close(ended_s)
        return ended_s

    def _run(self) -> float:
        client, router, timers, end_s = self.client, self.router, self._timers, self._end_s
        engine_next, wake_engine = self._engine_next, self._wake_engine
        router_wakes, router_s = router.may_wake, INF
        now_s = 0.0
        while True:
            engine_s = min(engine_next)
            client_s = client.due_s if engine_s != INF else client.next_wake_s()
            next_s = engine_s if engine_s <= client_s else client_s
            if router_wakes and (router_s := router.next_wake_s()) < next_s:
                next_s = router_s
            timer_s = timers[0][0]  # samples and polls never run dry
            if timer_s < next_s:
                if next_s == INF and not client.open_attempts:
                    return now_s
                next_s = timer_s
            if next_s > end_s:
                return end_s
            now_s = next_s
            if engine_s == now_s:
                wake_engine(engine_next.index(now_s), now_s)
            elif router_s == now_s:
                router.on_wake(now_s)
            elif timer_s == now_s:
                heappop(timers)[2](now_s)
                end_s = self._end_s  # the watcher may have moved it
            else:
                client.on_wake(now_s)

    # What the router asks for ------------------------------------------------------------------------------------------

    def send(self, attempt: Try, now_s: float) -> None:
        try_id, rid, replica_id, stage = attempt.try_id, attempt.request.rid, attempt.replica_id, attempt.stage
        assert stage != "pair", "prefill and decode at once is a live pool's way (SGLang's)"
        row = self._ledger.open_try(attempt, now_s)
        if self._faults is not None:
            refusal = self._faults.refusal(replica_id, attempt.request, now_s)
            if refusal is not None:
                self._refuse(attempt, row, *refusal, now_s)
                return
        root, replica, max_tokens = self._ledger.attempts[rid].root, self._replicas[replica_id], self._max_tokens
        prompt, output_tokens = root.prompt, root.output_tokens
        if output_tokens > max_tokens:
            output_tokens = max_tokens
        served = Served(try_id, prompt, root.reply_id, output_tokens, stage, max_tokens, root.tenant)  # tenants are priorities
        status = replica.submit(served, now_s, replica.profile.kv_transfer_s(prompt.tokens) if stage == "decode" else 0.0)
        if status != 200:
            self._refuse(attempt, row, status, REFUSALS[status], now_s)
            return
        served.replica_id, served.rid, served.row = replica_id, rid, row
        row.held += 1
        self._live[try_id] = served
        self._engine_next[replica_id] = replica.next_s

    def _refuse(self, attempt: Try, row: OpenAttempt, status: int, error: str, now_s: float) -> None:
        row.engine_ended_us = to_us(now_s)
        self._ledger.end_row(row, now_s, "refused", status, error)
        self._pinned.pop(attempt.request.rid, None)  # nobody will fetch it
        self.router.on_try_end(attempt.try_id, False, status, now_s, error)

    def abort(self, try_id: int, now_s: float) -> None:
        live = self._live.get(try_id)
        if live is not None:
            self.orphan(try_id, now_s)
            replica = self._replicas[live.replica_id]
            replica.cancel(live, now_s)
            self._engine_next[live.replica_id] = replica.next_s

    def orphan(self, try_id: int, now_s: float) -> None:
        """The router gave the try up: its row ends, unless its client has ended it."""
        live = self._live.get(try_id)
        if live is not None:
            self._ledger.end_row(live.row, now_s, "timeout", 504, "router gave up")

    def probe_by(self, router: int, replica_id: int, now_s: float) -> None:
        def answer(now_s: float) -> None:
            if self._faults is None or self._faults.answers_probe(replica_id, now_s):
                self.routers[router].on_probe(replica_id, self._observe(replica_id, now_s), now_s)

        self._at(now_s + PROBE_ROUND_TRIP_S, answer)

    # Engines -----------------------------------------------------------------------------------------------------------

    def _wake_engine(self, replica_id: int, now_s: float) -> None:
        replica = self._replicas[replica_id]
        own_s = now_s if self._faults is None else self.engines[replica_id].next_s  # an event may bend the engine's own time
        touched: list[Served] = replica.on_wake(now_s)  # type: ignore[assignment]  # what `send` gave it
        self._engine_next[replica_id] = replica.next_s
        if self._kv_news is not None:
            self._kv_news.carry(replica_id, now_s)
        for served in touched:
            if served.first_token_s == own_s and served.stage != "prefill" and served.state != CANCELLED:
                self._relay_first_token(served, now_s)
            if served.ended_s is not None:  # else decoding, or preempted at this very boundary
                self._on_ended(served, now_s)

    def _relay_first_token(self, served: Served, now_s: float) -> None:
        if self._pinned:
            self._fetch(served.rid, now_s)
        self.router.on_first_token(served.try_id, now_s)
        row = served.row
        if row.ended_us is None:  # else the client is not waiting for it any more
            row.first_token_us = round(now_s * 1e6)
            self.client.on_first_token(served.rid, now_s)

    def _fetch(self, rid: int, now_s: float) -> None:
        """The replica that decodes has started: the one that prefilled need not keep the KV any more."""
        prefilled = self._pinned.pop(rid, None)
        if prefilled is not None:
            replica = self._replicas[prefilled.replica_id]
            replica.fetched(prefilled, now_s)
            self._engine_next[prefilled.replica_id] = replica.next_s

    def _on_ended(self, served: Served, now_s: float) -> None:
        """The engine is through with it: finished, cancelled, or dropped."""
        row, try_id, stage, state = served.row, served.try_id, served.stage, served.state
        del self._live[try_id]
        row.held -= 1
        row.engine_ended_us = ended_us = round(now_s * 1e6)
        self._settle_row(row, served, served.generated)
        if stage == "decode":
            self._pinned.pop(served.rid, None)  # cancelled or dropped before it fetched the KV: that waits for its timeout
        if state == FINISHED:
            if stage != "prefill":
                if row.ended_us is None:
                    row.output_tokens, row.ended_us, row.outcome, row.status = served.generated, ended_us, "ok", 200
            elif self._replicas[served.replica_id].profile.kv_pin_timeout_s:
                self._pinned[served.rid] = served
            self.router.on_try_end(try_id, True, 200, now_s, "", served.generated, served.cached_tokens)
        elif state == DROPPED:
            outcome, error = DROPS[served.status]
            self._ledger.end_row(row, now_s, outcome, served.status, error)
            self.router.on_try_end(try_id, False, served.status, now_s, error)

    def _settle_row(self, row: OpenAttempt, sequence: EngineSequence, generated: int) -> None:
        """The engine's side of a row: what it computed, wanted or not."""
        row.prefilled_tokens += sequence.prefilled_tokens
        row.decoded_tokens += generated
        if sequence.stage != "decode":
            row.cached_tokens = sequence.cached_tokens
        if sequence.stage != "prefill" and sequence.generated > 1:
            row.max_gap_us = round(sequence.max_gap_s * 1e6)

    def _lose(self, replica: ClockedReplica, now_s: float) -> int:
        """A replica dies: what it had computed is on its tries' rows, then they end with an error. Returns how many they were."""
        lost = [served for served in self._live.values() if served.replica_id == replica.replica_id]
        for served in lost:
            row = served.row
            del self._live[served.try_id]
            row.held -= 1
            row.engine_ended_us = to_us(now_s)
            self._settle_row(row, served, replica.generated(served, now_s))
            self._ledger.end_row(row, now_s, "error", 0, CONNECTION_LOST)
        replica.kill(now_s)
        self._engine_next[replica.replica_id] = replica.next_s
        for served in lost:
            self.router.on_try_end(served.try_id, False, 0, now_s, CONNECTION_LOST)
        return len(lost)

    # Observation -----------------------------------------------------------------------------------------------------------

    def _at(self, at_s: float, call: Callable[[float], None]) -> None:
        heappush(self._timers, (at_s, next(self._numbers), call))

    def _schedule_events(self, faults: Faults) -> None:
        news = self._kv_news
        if news is None:
            faults.schedule(self._at)
            return
        news.is_dark = faults.is_dark
        faults.schedule(lambda at_s, call: self._at(at_s, news.after(call)))

    def _observe(self, replica_id: int, now_s: float) -> Observation:
        replica = self._replicas[replica_id]
        return Observation(replica.waiting, replica.running, replica.kv_used(now_s), replica.latency_s(now_s))

    def _schedule_poll(self, router: int, replica_id: int, number: int, at_s: float) -> None:
        rule, seed = self._cell.observation, self._cell.seed

        def poll(now_s: float) -> None:
            heard = self._faults is None or self._faults.answers_poll(replica_id, now_s)
            if heard and not rule.is_lost(seed, router, replica_id, number):
                self.routers[router].on_observation(replica_id, self._observe(replica_id, now_s), now_s)
            self._schedule_poll(router, replica_id, number + 1, at_s + rule.poll_after_s(seed, router, replica_id, number))

        self._at(at_s, poll)

    def _sample_at(self, at_s: float) -> None:
        def sample(now_s: float) -> None:
            for replica_id, replica in enumerate(self._replicas):
                counters = replica.counters
                self._recorder.samples.append(
                    ReplicaSample(
                        t_us=to_us(now_s),
                        replica_id=replica_id,
                        running=replica.running,
                        waiting=replica.waiting,
                        kv_used=replica.kv_used(now_s),
                        prefix_hit_tokens=counters.prefix_hit_tokens,
                        prefix_query_tokens=counters.prefix_query_tokens,
                        preemptions=counters.preemptions,
                        queue_age_us=to_us(replica.queue_age_s(now_s)),
                    )
                )
            self._sample_at(at_s + 1.0)
            if self._watch is not None:
                self._watch(now_s)

        self._at(at_s, sample)

    # The end -----------------------------------------------------------------------------------------------------------

    def _truth(self) -> Truth:
        truth = PoolTruth(self.engines, self._ledger.output_tokens)
        return truth if self._faults is None else self._faults.truth(truth)

    def _close(self, now_s: float) -> None:
        """Whatever is still open is censored; the engine's work for it is counted."""
        self._close_books()
        for served in self._live.values():
            self._settle_row(served.row, served, self._replicas[served.replica_id].generated(served, now_s))
        if self._faults is not None:
            self._faults.close(now_s)
