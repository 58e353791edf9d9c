"""`least_tokens`: the replica with the fewest tokens in flight. It does not know how fast they are worked off."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.token_books import EXPECTED_OUTPUT_TOKENS, TokenBooks
from routers.choices.prebuilt import Prebuilt
from routers.parameters import settings_of, within
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest, TryEnd


@dataclass(frozen=True, slots=True)
class LeastTokensSettings:
    """`expected_output_tokens` an answer counts, as its length is unknown (1024 is SMG's default where it knows no length)."""

    expected_output_tokens: int = EXPECTED_OUTPUT_TOKENS

    def __post_init__(self) -> None:
        within("expected_output_tokens", self.expected_output_tokens, 0)


class LeastTokens(Policy):
    """Fewest tokens in flight by its own count: prompts that have no first token yet + the expected output of all; lowest id on
    a tie.

    llm-d's `token-load-scorer` (in-flight tokens, there scaled by 4,194,304 and weighed with other scorers). Weakness: a guess
    of the output dominates short prompts, cached prefixes count as work, and other routers' tokens are not seen.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(LeastTokensSettings, context.parameters, "least_tokens")
        self._books = TokenBooks(context.replica_ids, settings.expected_output_tokens)
        self._decisions = Prebuilt("fewest tokens in flight")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        return self._decisions[self._books.tokens.least(replicas)]

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._books.sent(request, decision.replica_id, request.prompt.tokens)

    def on_first_token(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._books.first_token(request)

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        self._books.ended(request)

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._books.keep(replica_ids)
        self._decisions.keep(replica_ids)
