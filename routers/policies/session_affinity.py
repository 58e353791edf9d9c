"""`session_affinity`: a session stays until its replica would be too slow, then goes where the fewest tokens are. It does not
know which prompts are cached, only where a session was."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.session_table import SessionTable
from routers.books.token_books import EXPECTED_OUTPUT_TOKENS, TokenBooks
from routers.choices.prebuilt import Prebuilt
from routers.forecasts.predicted_latency import PredictedLatency
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd


@dataclass(frozen=True, slots=True)
class SessionAffinitySettings:
    """`ttft_s`: the bound. `tokens_per_s` predicts where no engine profile is known (SMG's default throughput). A session ends
    after `ttl_s` of silence (as `sticky_least_sessions`)."""

    ttft_s: float = 2.0
    tokens_per_s: float = 2000.0
    expected_output_tokens: int = EXPECTED_OUTPUT_TOKENS
    ttl_s: float = 7200.0
    max_sessions: int = 1_000_000

    def __post_init__(self) -> None:
        within("ttft_s", self.ttft_s, 0.0)
        within("tokens_per_s", self.tokens_per_s, 0.001)
        within("expected_output_tokens", self.expected_output_tokens, 0)
        within("ttl_s", self.ttl_s, 0.0)
        within("max_sessions", self.max_sessions, 1)


class SessionAffinity(Policy):
    """A rule of our own: the session's last replica while its predicted TTFT there is at most `ttft_s`; else, and for a new
    session, the fewest tokens in flight (`least_tokens`), and the session lives there from now on.

    TTFT by the engine profile (`PredictedLatency`), or (tokens in flight + new tokens) / `tokens_per_s` where there is none; new
    tokens = the prompt without what the session had been sent and answered there before. vllm-router's `sticky_table.rs` is
    its kin (spills by in-flight counts, and only small requests). Weakness: it believes that what a session left is still cached.
    """

    def __init__(self, context: PolicyContext) -> None:
        self._settings = settings_of(SessionAffinitySettings, context.parameters, "session_affinity")
        expected = self._settings.expected_output_tokens
        self._model = None if context.profile is None else PredictedLatency(context.profile, context.replica_ids, expected)
        self._books = TokenBooks(context.replica_ids, expected) if self._model is None else self._model.books
        self._table = SessionTable(self._settings.ttl_s, self._settings.max_sessions)
        self._all = len(context.replica_ids)
        self._home, self._new = Prebuilt("session's replica"), Prebuilt("new session: fewest tokens")
        self._spilled = Prebuilt("session's replica too slow: fewest tokens")
        self._away = Prebuilt("session's replica is away: fewest tokens")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        self._table.sweep(now_s)
        home = self._table.replica_of(request.session_key)
        if home is None:
            return self._new[self._books.tokens.least(replicas)]
        if len(replicas) == self._all:
            place = self._books.tokens.place[home]
            at_home = replicas[place : place + 1]
        else:
            at_home = [v for v in replicas if v.replica_id == home]
        if not at_home:
            return self._away[self._books.tokens.least(replicas)]
        if self._ttft_s(request, at_home) <= self._settings.ttft_s:
            return self._home[home]
        return self._spilled[self._books.tokens.least(replicas)]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        new_tokens = self._new_tokens(request, decision.replica_id)
        self._table.put(request.session_key, decision.replica_id, now_s, request.prompt.tokens)
        if self._model is None:
            self._books.sent(request, decision.replica_id, new_tokens)
        else:
            self._model.sent(request, decision.replica_id, new_tokens, now_s)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        if self._model is None:
            self._books.first_token(request)
        else:
            self._model.first_token(request, decision.replica_id, now_s)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        if self._table.replica_of(request.session_key) == decision.replica_id:
            tokens = request.prompt.tokens + end.output_tokens
            self._table.put(request.session_key, decision.replica_id, now_s, tokens if end.ok else 0)
        if self._model is None:
            self._books.ended(request)
        else:
            self._model.ended(request, decision.replica_id, now_s)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._all = len(replica_ids)
        self._table.keep(replica_ids)
        if self._model is None:
            self._books.keep(replica_ids)
        else:
            self._model.keep(replica_ids, now_s)
        for decisions in (self._home, self._new, self._spilled, self._away):
            decisions.keep(replica_ids)

    def _new_tokens(self, request: RoutedRequest, replica_id: int) -> int:
        known = self._table.tokens_of(request.session_key) if self._table.replica_of(request.session_key) == replica_id else 0
        return max(1, request.prompt.tokens - known)

    def _ttft_s(self, request: RoutedRequest, at_home: Sequence[ReplicaView]) -> float:
        new_tokens = self._new_tokens(request, at_home[0].replica_id)
        if self._model is not None:
            return self._model.ttft_s(request, new_tokens, at_home)[0]
        return (self._books.tokens[at_home[0].replica_id] + new_tokens) / self._settings.tokens_per_s
