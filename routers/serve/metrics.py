"""The router's own counts, and how they are shown. No label holds anything that a client sent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from replicas.view import ReplicaView
from routers.policy import Decision, RoutedRequest
from routers.serve.exposition import Histogram, Labels, family, histogram
from routers.tries import RequestEnd, Try

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy

_TTFT_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0, 120.0)
_E2E_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_MOST_REASONS = 2000


class Metrics:
    """Counts go up; gauges are read from the router when they are asked for."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, int], int] = {}
        self._tries: dict[tuple[int, str, int], int] = {}
        self._decisions: dict[tuple[int, str], int] = {}
        self._refusals: dict[int, int] = {}
        self._ttft: dict[int, Histogram] = {}
        self._e2e = Histogram(_E2E_S)
        self.plain = self.turned_away = 0

    # What happens

    def on_decision(
        self, request: RoutedRequest, decision: Decision, router_try: int, replicas: Sequence[ReplicaView], now_s: float
    ) -> None:
        key = decision.replica_id, decision.reason
        counts = self._decisions
        if key not in counts and len(counts) >= _MOST_REASONS:
            key = decision.replica_id, "other"
        counts[key] = counts.get(key, 0) + 1

    def on_first_byte(self, attempt: Try, ttft_s: float) -> None:
        made = self._ttft.get(attempt.replica_id)
        if made is None:
            made = self._ttft[attempt.replica_id] = Histogram(_TTFT_S)
        made.observe(ttft_s)

    def on_try_end(self, attempt: Try, ok: bool, status: int) -> None:
        self._add_try(attempt, "ok" if ok else "failed", status)

    def on_answer(self, end: RequestEnd, e2e_s: float) -> None:
        self._e2e.observe(e2e_s)
        if end.refused_by is not None:
            self._refusals[end.refused_by] = self._refusals.get(end.refused_by, 0) + 1
        self._add_outcome("ok" if end.ok else "refused" if end.last_try is None else "failed", end.status)

    def on_hang_up(self, attempt: Try | None) -> None:
        if attempt is not None:
            self._add_try(attempt, "aborted", 0)
        self._add_outcome("hung up", 0)

    def on_given_up(self, attempt: Try) -> None:
        self._add_try(attempt, "given up", 0)

    def on_expired(self) -> None:
        self._add_outcome("expired", 504)

    def forget(self, replica_id: int) -> None:
        """A replica has left: its counts would only grow in number."""
        self._ttft.pop(replica_id, None)
        self._tries = {key: n for key, n in self._tries.items() if key[0] != replica_id}
        self._decisions = {key: n for key, n in self._decisions.items() if key[0] != replica_id}

    # What is shown

    def text(self, proxy: "Proxy") -> bytes:
        """All of it, as Prometheus reads it."""
        lines = [*self._counted(proxy), *_pool(proxy), *_process(proxy)]
        return ("\n".join(lines) + "\n").encode()

    # Inside

    def _add_try(self, attempt: Try, how: str, status: int) -> None:
        key = attempt.replica_id, how, status
        self._tries[key] = self._tries.get(key, 0) + 1

    def _add_outcome(self, outcome: str, status: int) -> None:
        key = outcome, status
        self._outcomes[key] = self._outcomes.get(key, 0) + 1

    def _counted(self, proxy: "Proxy") -> list[str]:
        def at(replica_id: int) -> Labels:
            return (("replica", proxy.name_of(replica_id)),)

        outcomes = [((("outcome", o), ("status", str(s))), n) for (o, s), n in self._outcomes.items()]
        tries = [((*at(r), ("outcome", o), ("status", str(s))), n) for (r, o, s), n in self._tries.items()]
        decisions = [((*at(r), ("reason", why)), n) for (r, why), n in self._decisions.items()]
        refusals = [((("guard", proxy.guard_names[g]),), n) for g, n in self._refusals.items()]
        name = "stampede_router_"
        return [
            *family(name + "requests_total", "counter", "Requests by how they ended.", outcomes),
            *family(name + "tries_total", "counter", "Tries at replicas by how they ended.", tries),
            *family(name + "decisions_total", "counter", "Decisions of the policy, by its reason.", decisions),
            *family(name + "refusals_total", "counter", "Requests that a guard refused.", refusals),
            *family(name + "plain_requests_total", "counter", "Requests past the policy.", [((), self.plain)]),
            *family(name + "turned_away_total", "counter", "Client connections over the limit.", [((), self.turned_away)]),
            *histogram(
                name + "ttft_seconds",
                "Until the first byte of a response's body, from the request's arrival.",
                [(at(r), made) for r, made in self._ttft.items()],
            ),
            *histogram(name + "e2e_seconds", "Until a request was answered.", [((), self._e2e)]),
        ]


def _pool(proxy: "Proxy") -> list[str]:
    name = "stampede_router_replica_"
    views = [((("replica", proxy.name_of(v.replica_id)), ("role", v.role)), v) for v in proxy.router.views]
    links = [((("replica", proxy.name_of(i)),), link) for i, link in proxy.links.items()]
    checks = [
        ((("replica", proxy.name_of(i)), ("result", "ok" if ok else "failed")), n)
        for i, watch in proxy.watches.items()
        for ok, n in watch.checks.items()
    ]
    return [
        *family(name + "healthy", "gauge", "1 while health checks pass.", [(of, float(v.healthy)) for of, v in views]),
        *family(name + "in_flight", "gauge", "Requests sent and not ended.", [(of, v.in_flight) for of, v in views]),
        *family(name + "in_flight_tokens", "gauge", "Their tokens.", [(of, v.in_flight_tokens) for of, v in views]),
        *family(name + "waiting", "gauge", "Requests waiting, as last observed.", [(of, v.waiting) for of, v in views]),
        *family(name + "running", "gauge", "Requests running, as last observed.", [(of, v.running) for of, v in views]),
        *family(name + "kv_used", "gauge", "Share of KV cache in use, as last observed.", [(of, v.kv_used) for of, v in views]),
        *family(name + "connections", "gauge", "Open connections.", [(of, link.open_connections) for of, link in links]),
        *family(name + "idle_connections", "gauge", "Unused ones.", [(of, link.idle_connections) for of, link in links]),
        *family(name + "health_checks_total", "counter", "Health checks.", checks),
    ]


def _process(proxy: "Proxy") -> list[str]:
    router, name = proxy.router, "stampede_router_"
    return [
        *family(name + "open_requests", "gauge", "Requests inside the router.", [((), router.open_requests)]),
        *family(name + "held_requests", "gauge", "Requests held by a guard.", [((), router.held_requests)]),
        *family(name + "client_connections", "gauge", "Open client connections.", [((), len(proxy.connections))]),
        *family(name + "buffered_bytes", "gauge", "Request bodies held.", [((), proxy.buffered_bytes)]),
    ]
