"""`sticky_least_sessions`: a new session goes where the fewest live, and stays there. It is blind to real load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.session_table import SessionTable
from routers.choices.prebuilt import Prebuilt
from routers.hashing.hash_ring import hash_of
from routers.hashing.rendezvous_hash import RendezvousHash
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class StickySettings:
    """A session ends after `ttl_s` of silence (vllm-router: 2 h); `max_sessions` is ours, vllm-router has no bound."""

    ttl_s: float = 7200.0
    max_sessions: int = 1_000_000

    def __post_init__(self) -> None:
        within("ttl_s", self.ttl_s, 0.0)
        within("max_sessions", self.max_sessions, 1)


class StickyLeastSessions(Policy):
    """vllm-router's `sticky_least_loaded.rs`: a known session → its replica; a new one, or one whose replica is not eligible
    → the eligible replica with the fewest live sessions, ties by the highest random weight of the session there.

    Silent sessions are swept out once a minute. vllm-router can also be told that a session is over, which no client here does.
    Weakness: a session counts one, busy or silent, so a slow replica keeps its share (one still got 40 of 160, measured); after
    an outage the returned replica gets all new sessions until the counts are level.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(StickySettings, context.parameters, "sticky_least_sessions")
        self._all = len(context.replica_ids)
        self._table = SessionTable(settings.ttl_s, settings.max_sessions)
        self._hash = RendezvousHash(dict.fromkeys(context.replica_ids, 1))
        self._known, self._new = Prebuilt("session's replica"), Prebuilt("new session: fewest sessions")
        self._moved = Prebuilt("session's replica is away: fewest sessions")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        self._table.sweep(now_s)
        home = self._table.replica_of(request.session_key)
        if home is not None and (len(replicas) == self._all or any(v.replica_id == home for v in replicas)):
            return self._known[home]
        counts = dict(self._table.counts)
        if home is not None:
            counts[home] -= 1
        fewest = min([counts.get(v.replica_id, 0) for v in replicas])
        tied = [v for v in replicas if counts.get(v.replica_id, 0) == fewest]
        chosen = self._hash.first_of(tied, hash_of(request.session_key))
        return self._new[chosen] if home is None else self._moved[chosen]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._table.put(request.session_key, decision.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._all = len(replica_ids)
        self._table.keep(replica_ids)
        self._hash = RendezvousHash(dict.fromkeys(replica_ids, 1))
        for decisions in (self._known, self._new, self._moved):
            decisions.keep(replica_ids)
