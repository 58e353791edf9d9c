"""The router: takes a request through guards and policy to a replica, and again if a guard says so.

A sans-IO state machine under both clocks: inputs are `on_…`, outputs are calls of `Effects`. It does not know sockets, the
engine, or what the policy and the guards think.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from replicas.view import Observation, ReplicaView
from routers.eligible import EligibleReplicas
from routers.guard import GiveUp, Guard, Hold, Refuse, Retry
from routers.hooks import Hooks
from routers.open_tries import OpenTries
from routers.policy import Decision, KvEvent, NoReplica, Policy, RoutedRequest, TryEnd
from routers.retry_timers import RetryTimers
from routers.tries import Effects, Flight, RequestEnd, Stage, Try

__all__ = ["Effects", "OnDecision", "RequestEnd", "Router", "Try"]

# (request, decision, router_try, the eligible replicas as the policy saw them, now_s); called before the send is counted
OnDecision = Callable[[RoutedRequest, Decision, int, Sequence[ReplicaView], float], None]

NO_REPLICA_STATUS = 503


class Router:
    """One router in front of one pool.

    Guards act in order; a held request goes on at the next guard, and a retry passes only the guards *after* the one that
    asked for it. `views` is in ascending id; only the router writes it. `pairs_together`: a pair is one try of stage `pair`,
    which goes to both replicas at once (SGLang), instead of a prefill and then a decode (vLLM).
    """

    def __init__(
        self,
        policy: Policy,
        guards: Sequence[Guard],
        views: Sequence[ReplicaView],
        effects: Effects,
        *,
        on_decision: OnDecision | None = None,
        number: int = 0,
        of: int = 1,
    ) -> None:
        self.policy = policy
        self.guards = tuple(guards)
        self._replicas = EligibleReplicas(views, self.guards)
        self.pairs_together = False
        self._by_id = self._replicas.by_id
        self._effects = effects
        self._orphan: Callable[[int, float], None] | None = getattr(effects, "orphan", None)
        self._on_decision = on_decision
        self._flights: dict[int, Flight] = {}
        self._tries = OpenTries(self._replicas, number, of)
        self._timers = RetryTimers()
        self._held = 0
        self._releasing = False
        self._hooks = Hooks(policy, self.guards)

    @property
    def views(self) -> Sequence[ReplicaView]:
        """The pool, in ascending id."""
        return self._replicas.views

    @property
    def open_requests(self) -> int:
        """Requests inside: held, being served, or waiting for a retry."""
        return len(self._flights)

    @property
    def held_requests(self) -> int:
        """Requests held by a guard."""
        return self._held

    # Inputs

    def on_request(self, request: RoutedRequest, now_s: float) -> None:
        """A client attempt arrives; raises ValueError if its `rid` is already inside."""
        if request.rid in self._flights:
            raise ValueError(f"rid {request.rid} is already in the router; every client attempt needs its own")
        flight = self._flights[request.rid] = Flight(request)
        if self.guards:
            self._admit(flight, 0, now_s)
        else:
            self._dispatch(flight, now_s)

    def on_first_token(self, try_id: int, now_s: float) -> None:
        """The first token was relayed: from here on nothing can be retried. A prefill's token is not relayed."""
        attempt = self._tries.get(try_id)
        if attempt is None or attempt.stage == "prefill":
            return
        attempt.flight.streaming = True
        if self._hooks.first_token is not None:
            self._hooks.first_token(attempt.request, attempt.decision, now_s)
        for hook in self._hooks.guard_first_token:
            hook(attempt.request, attempt.replica_id, now_s)
        self._release(now_s)

    def on_try_end(
        self,
        try_id: int,
        ok: bool,
        status: int,
        now_s: float,
        error: str = "",
        output_tokens: int = 0,
        cached_tokens: int | None = None,
        at: int | None = None,
    ) -> None:
        """A try has ended (see `TryEnd`); an unknown `try_id` (aborted before) is ignored.

        `at`: the replica that it ended at, where that is not the try's own (the prefill half of a `pair`).
        """
        attempt = self._tries.retire(try_id)
        if attempt is None:
            return
        flight = attempt.flight
        if ok and attempt.stage == "prefill" and attempt.decision.replica_id not in self._by_id:
            ok, status, error = False, NO_REPLICA_STATUS, "the decode replica has left the pool"
        retry = end = None
        if self._hooks.tells_ends:
            at = attempt.replica_id if at is None else at
            end = TryEnd(ok, status, at, attempt.router_try, flight.streaming, output_tokens, cached_tokens)
            retry = self._end_for_guards(attempt.request, end, now_s)
        if ok and attempt.stage == "prefill":
            self._send(flight, attempt.decision, "decode", attempt.decision.replica_id, now_s)
        else:
            if self._hooks.policy_end is not None and end is not None:
                self._hooks.policy_end(attempt.request, attempt.decision, end, now_s)
            if retry is None or ok or flight.streaming:
                self._finish(flight, ok, status, error, now_s)
            else:
                self._retry(flight, *retry)
        if self._held:
            self._release(now_s)

    def on_prefilled(self, try_id: int) -> None:
        """The prefill half of a `pair` has ended well: its replica is free of it."""
        attempt = self._tries.get(try_id)
        if attempt is not None:
            self._tries.end_prefill_half(attempt)

    def on_cancel(self, rid: int, now_s: float) -> None:
        """The client hung up: its try is aborted, or it is dropped where it waits. Nobody is answered."""
        flight = self._flights.pop(rid, None)
        if flight is None:
            return
        self._held -= flight.held_at >= 0
        flight.last = None  # see `_finish`
        self._timers.drop(flight)
        if flight.live is not None and flight.decision is not None:
            try_id = flight.live.try_id
            end = TryEnd(False, 0, flight.live.replica_id, flight.router_try, flight.streaming)
            self._tries.retire(try_id)
            if self._hooks.policy_end is not None:
                self._hooks.policy_end(flight.request, flight.decision, end, now_s)
            self._effects.abort(try_id, now_s)
        for hook in self._hooks.guard_done:
            hook(flight.request, now_s)
        self._release(now_s)

    def on_observation(self, replica_id: int, seen: Observation, now_s: float, observed_s: float | None = None) -> None:
        """News from a replica's gauges arrives at `now_s`; it was true at `observed_s` (None: now)."""
        view = self._by_id[replica_id]
        view.waiting, view.running, view.kv_used = seen.waiting, seen.running, seen.kv_used
        view.observed_s = now_s if observed_s is None else observed_s
        self.policy.on_observation(view, now_s)

    def on_probe(self, replica_id: int, seen: Observation, now_s: float) -> None:
        """A probe is answered: news for the policy alone."""
        self.policy.on_probe(replica_id, seen, now_s)

    def on_kv_event(self, replica_id: int, event: KvEvent, now_s: float) -> None:
        """A replica tells what its prefix cache holds: news for the policy alone."""
        self.policy.on_kv_event(replica_id, event, now_s)

    def set_healthy(self, replica_id: int, healthy: bool, now_s: float) -> None:
        """A health check speaks. Tries under way are left to end by themselves."""
        self._replicas.set_healthy(replica_id, healthy)
        self._release(now_s)

    def add(self, view: ReplicaView, now_s: float) -> None:
        """A replica joins the pool; raises ValueError unless its id is new."""
        self._replicas.add(view)
        self._tell_pool(now_s)

    def remove(self, replica_id: int, now_s: float) -> None:
        """A replica leaves the pool; tries under way there are left to end by themselves. Raises ValueError for an unknown id."""
        self._replicas.remove(replica_id)
        self._tell_pool(now_s)

    @property
    def may_wake(self) -> bool:
        """False where `next_wake_s` will always be inf: no guard, which could hold or retry, and a policy without a timer."""
        return bool(self.guards or self._hooks.wakers)

    def next_wake_s(self) -> float:
        """When `on_wake` is due at the latest (inf: never)."""
        wake_s = self._timers.next_s()
        for wake in self._hooks.wakers:
            wake_s = min(wake_s, wake())
        return wake_s

    def on_wake(self, now_s: float) -> None:
        """Time has passed: retries that are due, the policy's own timer, requests that may leave a queue."""
        for hook in self._hooks.guard_wake:
            hook(now_s)
        for give_up in self._hooks.guard_give_up:
            for item in give_up(now_s):
                self._give_up(item, now_s)
        while (due := self._timers.take(now_s)) is not None:
            self._admit(*due, now_s)
        if self.policy.next_wake_s() <= now_s:
            for replica_id in self.policy.on_wake(now_s):
                self._effects.probe(replica_id, now_s)
        self._release(now_s)

    def _tell_pool(self, now_s: float) -> None:
        ids = self._replicas.ids
        self.policy.on_pool(ids, now_s)
        for guard in self.guards:
            guard.on_pool(ids, now_s)
        self._release(now_s)

    def _give_up(self, item: GiveUp, now_s: float) -> None:
        """The try is aborted, or becomes an orphan of which nothing is heard any more; either way it has failed."""
        flight = self._flights.get(item.rid)
        if flight is None or flight.live is None:
            return
        try_id = flight.live.try_id
        if not item.orphan:
            self._effects.abort(try_id, now_s)
        elif self._orphan is not None:
            self._orphan(try_id, now_s)
        self.on_try_end(try_id, False, item.status, now_s, "the router gave it up")

    # The way of a request

    def _admit(self, flight: Flight, first: int, now_s: float) -> None:
        for index, ask in self._hooks.asked_from[first]:
            admission = ask(flight.request, self._replicas.as_seen_by(index, now_s), now_s)
            if isinstance(admission, Hold):
                flight.held_at = index
                self._held += 1
                self._release(now_s)
                return
            if isinstance(admission, Refuse):
                self._finish(flight, False, admission.status, "refused by a guard", now_s, index)
                self._release(now_s)
                return
        self._dispatch(flight, now_s)

    def _dispatch(self, flight: Flight, now_s: float) -> None:
        request, replicas, decision = flight.request, self._replicas.now(now_s), None
        if flight.exclude:
            rest = [v for v in replicas if v.replica_id not in flight.exclude]
            decision = self._choose(request, rest, now_s)
            replicas = replicas if decision is None else rest
        if decision is None:  # none excluded, or nothing else is left, or a pair lacks a role
            decision = self._choose(request, replicas, now_s)
        if decision is None:
            self._finish(flight, False, NO_REPLICA_STATUS, "no eligible replica", now_s)
            self._release(now_s)
            return
        flight.decision = decision
        flight.router_try += 1
        if self._on_decision is not None:
            self._on_decision(request, decision, flight.router_try, replicas, now_s)
        if self._hooks.sent is not None:
            self._hooks.sent(request, decision, now_s)
        for replica_id in decision.probes:
            self._effects.probe(replica_id, now_s)
        if decision.prefill_id is None:
            self._send(flight, decision, "serve", decision.replica_id, now_s)
        elif self.pairs_together:
            self._send(flight, decision, "pair", decision.replica_id, now_s)
        else:
            self._send(flight, decision, "prefill", decision.prefill_id, now_s)

    def _choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision | None:
        if not replicas:
            return None
        try:
            return self.policy.choose(request, replicas, now_s)
        except NoReplica:
            return None

    def _send(self, flight: Flight, decision: Decision, stage: Stage, replica_id: int, now_s: float) -> None:
        attempt = self._tries.open(flight, decision, stage, replica_id)
        for hook in self._hooks.guard_sent:
            hook(flight.request, replica_id, now_s)
        self._effects.send(attempt, now_s)  # last: it may end at once

    def _end_for_guards(self, request: RoutedRequest, end: TryEnd, now_s: float) -> tuple[Retry, int] | None:
        """Every guard hears of the end; the first Retry counts, with the index of the guard to go on at."""
        chosen = None
        for index, hook in self._hooks.guard_end:
            retry = hook(request, end, now_s)
            if retry is not None and chosen is None:
                chosen = retry, index + 1
        return chosen

    def _retry(self, flight: Flight, retry: Retry, first: int) -> None:
        """Always by the timer, even at once: a driver may refuse inside `send`, and calls must not nest for each retry."""
        flight.exclude = retry.exclude
        flight.request = replace(flight.request, router_try=flight.router_try + 1)
        self._timers.set(flight, retry.at_s, first)

    def _finish(self, flight: Flight, ok: bool, status: int, error: str, now_s: float, refused_by: int | None = None) -> None:
        rid = flight.request.rid
        del self._flights[rid]
        for hook in self._hooks.guard_done:
            hook(flight.request, now_s)
        last, flight.last = flight.last, None  # a try knows its flight: no cycle may be left for the collector
        self._effects.answer(rid, RequestEnd(ok, status, error, last, refused_by), now_s)

    def _release(self, now_s: float) -> None:
        """Lets held requests move until no guard names another one."""
        if self._releasing or not self._held:
            return
        self._releasing = True
        moved = True
        while moved:
            moved = False
            for index, release in self._hooks.guard_release:
                for item in release(self._replicas.as_seen_by(index, now_s), now_s):
                    moved = True
                    self._let_go(item.rid, item.refuse_status, index, now_s)
        self._releasing = False

    def _let_go(self, rid: int, refuse_status: int | None, index: int, now_s: float) -> None:
        flight = self._flights.get(rid)
        if flight is None:
            return  # it hung up while others of the same release moved
        if flight.held_at != index:
            raise RuntimeError(f"guard {index} releases rid {rid}, which it does not hold")
        flight.held_at = -1
        self._held -= 1
        if refuse_status is None:
            self._admit(flight, index + 1, now_s)
        else:
            self._finish(flight, False, refuse_status, "refused by a guard", now_s, index)
