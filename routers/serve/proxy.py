"""Joins the sans-IO router to its sockets: requests in, tries out, answers back, time. It decides nothing."""

import asyncio
import logging
import time
from collections.abc import Sequence

from replicas.profile import EngineProfile
from replicas.view import Observation, ReplicaView, Role
from routers.factory import build_router
from routers.kv_events import refuse_deaf
from routers.policy import RoutedRequest
from routers.serve.ask import name_of_attempt, read_ask
from routers.serve.client_connection import ClientConnection
from routers.serve.dispatch import Dispatch
from routers.serve.metrics import Metrics
from routers.serve.openai_error import HttpError, error_body
from routers.serve.paths import kind_of
from routers.serve.plain_relay import PlainRelay
from routers.serve.relay import Relay
from routers.serve.replica_link import Address, ReplicaLink
from routers.serve.request_head import RequestHead
from routers.serve.request_log import RequestLog
from routers.serve.settings import ServeSettings
from routers.serve.watch import Watch
from routers.serve.wheel import Wheel
from routers.tries import RequestEnd, Try

log = logging.getLogger("stampede.router")

Named = tuple[str, dict[str, object]]
_SOONEST_S = 0.001


class Proxy:
    """The clients' front and the router's effects. Needs a running event loop from `start` on."""

    def __init__(
        self,
        policy: Named,
        guards: Sequence[Named],
        replicas: Sequence[tuple[Address, Role]],
        settings: ServeSettings,
        seed: int = 0,
        profile: EngineProfile | None = None,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.request_log: RequestLog | None = None
        self.wheel = Wheel()
        # whether a stream's silence would be noticed too late if its relay stayed where it is on the wheel
        self.looks_again = settings.timeouts.idle_s < 2 * self.wheel.span_s
        self.draining = self._stopped = False
        self.buffered_bytes = 0
        self.connections: set[ClientConnection] = set()
        self.relays: dict[int, Relay] = {}
        self.tries: dict[int, Relay] = {}  # the same, by the try that is under way
        self.links: dict[int, ReplicaLink] = {}
        self.watches: dict[int, Watch] = {}
        self.dispatch = Dispatch(self.links, settings)
        self.guard_names = [f"{place}_{name}" for place, (name, _) in enumerate(guards)]
        self._session_headers = tuple(name.lower().encode() for name in settings.session_headers)
        self._last_rid = 0
        self._turn = 0
        self._wake_s = float("inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._sweep: asyncio.TimerHandle | None = None
        for i, (address, _) in enumerate(replicas):
            self._link(i, address)
        views = [ReplicaView(i, role=role, healthy=False) for i, (_, role) in enumerate(replicas)]
        self.router = build_router(*policy, guards, views, self, seed, on_decision=self.metrics.on_decision, profile=profile)
        refuse_deaf(policy[0], self.router.policy)
        self.router.pairs_together = settings.pairs == "sglang"
        self._may_wake = self.router.may_wake
        self._knows_roles = self.router.policy.knows_roles
        if len(self.router.guards) > len(guards):
            self.guard_names.append(f"{len(guards)}_{policy[0]}")

    # Its life

    async def start(self) -> None:
        """One health check of every replica, then all that goes on by itself."""
        self.wheel.start()
        self._sweep_soon()
        await asyncio.gather(*(watch.check() for watch in self.watches.values()))
        for watch in self.watches.values():
            watch.start()
        self.wake(time.monotonic())

    def stop(self) -> None:
        """Hang up on everybody."""
        self._stopped = True
        self.wheel.stop()
        for timer in (self._alarm, self._sweep):
            if timer is not None:
                timer.cancel()
        for watch in self.watches.values():
            watch.stop()
        for connection in list(self.connections):
            connection.abort()
        for link in self.links.values():
            link.abort()

    # The clients' front

    def on_connection(self, connection: ClientConnection) -> bool:
        if self._stopped or len(self.connections) >= self.settings.limits.connections:
            self.metrics.turned_away += 1
            return False
        self.connections.add(connection)
        return True

    def on_connection_lost(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)

    def buffered(self, change: int) -> bool:
        if change > 0 and self.buffered_bytes + change > self.settings.limits.buffered_bytes:
            return False
        self.buffered_bytes += change
        return True

    def on_request(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        try:
            self._serve(connection, head, body)
        except HttpError as error:
            connection.respond(error.status, error_body(error.status, error.message))
        except RecursionError:
            connection.answerer = None
            connection.respond(400, error_body(400, "the body is nested too deeply"))
        except Exception as error:  # a fault of ours: told to the client and to whoever reads the log, and the router lives on
            log.exception("%s %r", head.method, head.path)
            connection.answerer = None
            connection.respond(500, error_body(500, f"the router failed: {type(error).__name__}"))

    # The router's effects

    def send(self, attempt: Try, now_s: float) -> None:
        relay = self.tries[attempt.try_id] = self.relays[attempt.request.rid]
        relay.send(attempt, now_s)

    def abort(self, try_id: int, now_s: float) -> None:
        relay = self.tries.pop(try_id, None)
        if relay is not None:  # else its client hung up, and it knows
            relay.give_up(False)

    def orphan(self, try_id: int, now_s: float) -> None:
        self.tries.pop(try_id).give_up(True)

    def probe(self, replica_id: int, now_s: float) -> None:
        watch = self.watches.get(replica_id)
        if watch is not None:
            watch.probe()

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        self.relays.pop(rid).answer(end, now_s)

    # What relays ask for

    def wake(self, now_s: float) -> None:
        """After every input: see that `on_wake` comes in time."""
        if not self._may_wake:
            return
        due_s = self.router.next_wake_s()
        if due_s < self._wake_s:
            if self._alarm is not None:
                self._alarm.cancel()
            self._wake_s = due_s
            self._alarm = asyncio.get_running_loop().call_later(max(due_s - now_s, _SOONEST_S), self._on_alarm)

    # What the watches tell

    def set_healthy(self, replica_id: int, healthy: bool) -> None:
        if replica_id in self.watches:
            now_s = time.monotonic()
            self.router.set_healthy(replica_id, healthy, now_s)
            self.wake(now_s)

    def on_observation(self, replica_id: int, seen: Observation, observed_s: float) -> None:
        if replica_id in self.watches:
            now_s = time.monotonic()
            self.router.on_observation(replica_id, seen, now_s, observed_s)
            self.wake(now_s)

    def on_probe(self, replica_id: int, seen: Observation) -> None:
        if replica_id in self.watches:
            now_s = time.monotonic()
            self.router.on_probe(replica_id, seen, now_s)
            self.wake(now_s)

    def on_unreachable(self, replica_id: int) -> None:
        watch = self.watches.get(replica_id)
        if watch is not None:
            watch.on_unreachable()

    # The pool

    def name_of(self, replica_id: int) -> str:
        link = self.links.get(replica_id)
        return link.address.url if link is not None else f"replica {replica_id}"

    def add(self, address: Address, role: Role) -> int:
        """A replica joins, and is used once it is healthy; returns its id. ValueError if it is in the pool already."""
        if any(link.address.url == address.url and i in self.watches for i, link in self.links.items()):
            raise ValueError(f"{address.url} is in the pool already")
        if (role == "both") == self.router.policy.knows_roles:
            raise ValueError(f"role {role!r} does not fit the policy")
        replica_id = self._next_id
        self._link(replica_id, address)
        self.router.add(ReplicaView(replica_id, role=role, healthy=False), time.monotonic())
        self.watches[replica_id].start()
        self.watches[replica_id].poke()
        return replica_id

    def remove(self, replica_id: int) -> None:
        """A replica gets no more requests; those under way there end by themselves. KeyError for an unknown id."""
        watch = self.watches.pop(replica_id)
        watch.stop()
        self.router.remove(replica_id, time.monotonic())
        self.links[replica_id].close()
        self.wake(time.monotonic())

    # Inside

    def _serve(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        method, path = head.method, head.path
        if path == b"/health":
            ready = not self.draining and any(v.healthy for v in self.router.views)
            connection.respond(200 if ready else 503, b"")
        elif path == b"/metrics":
            connection.respond(200, self.metrics.text(self), "text/plain; version=0.0.4; charset=utf-8")
        elif (kind := kind_of(method, path)) == "work":
            self._route(connection, head, body)
        elif kind == "plain":
            self._pass(connection, body)
        elif kind == "private":
            raise HttpError(404, "not served by the router: it is a matter of one replica")
        else:
            raise HttpError(404, f"no such path: {method} {path.decode('latin-1')[:200]}")

    def _route(self, connection: ClientConnection, head: RequestHead, body: bytes) -> None:
        ask = read_ask(head, body, self._session_headers)
        if not self._knows_roles:
            ask.json = {}  # only pairs need it again
        now_s = time.monotonic()
        rid = self._last_rid = self._last_rid + 1
        relay = self.relays[rid] = Relay(self, connection, rid, ask, body, now_s)
        request_id, client_attempt = name_of_attempt(head, rid)
        deadline_s = now_s + self.settings.timeouts.total_s
        request = RoutedRequest(
            rid, request_id, client_attempt, ask.session_key, ask.tenant, ask.prompt, ask.max_tokens, deadline_s
        )
        try:
            self.router.on_request(request, now_s)
        except Exception:
            self.relays.pop(rid, None)
            self.router.on_cancel(rid, now_s)  # what was counted of it is taken back
            raise
        relay.wait()
        self.wake(now_s)

    def _pass(self, connection: ClientConnection, body: bytes) -> None:
        healthy = [v for v in self.router.views if v.healthy]
        if not healthy:
            raise HttpError(503, "no replica is healthy")
        self._turn += 1
        self.metrics.plain += 1
        PlainRelay(self, connection, self.links[healthy[self._turn % len(healthy)].replica_id], body)

    def _link(self, replica_id: int, address: Address) -> None:
        link = self.links[replica_id] = ReplicaLink(replica_id, address, self.settings.timeouts, self)
        self.watches[replica_id] = Watch(self, link)
        self._next_id = replica_id + 1

    def _on_alarm(self) -> None:
        now_s = time.monotonic()
        self._wake_s, self._alarm = float("inf"), None
        try:
            self.router.on_wake(now_s)
        finally:
            self.wake(now_s)

    def _sweep_soon(self) -> None:
        now_s = time.monotonic()
        for link in self.links.values():
            link.sweep(now_s)
        for replica_id in [i for i in self.links if i not in self.watches and self.links[i].unused]:
            self.links.pop(replica_id).abort()
            self.metrics.forget(replica_id)
        if self.request_log is not None:
            self.request_log.flush()
        self._sweep = asyncio.get_running_loop().call_later(1.0, self._sweep_soon)
