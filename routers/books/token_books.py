"""What a policy itself has sent to each replica and not yet seen end, in tokens. It does not know what others send."""

from collections.abc import Sequence

from routers.books.tally import Tally
from routers.policy import RoutedRequest
from routers.tries import EXPECTED_OUTPUT_TOKENS

__all__ = ["EXPECTED_OUTPUT_TOKENS", "TokenBooks"]


class TokenBooks:
    """Four tallies a replica: `tokens` in flight (queued prefill + expected output), `prefill_tokens` not yet prefilled,
    `sequences`, and `context_tokens` of all sequences (what is prefilled, and half of the expected output).

    A prompt counts as prefilled from the first token on; an answer counts `expected_output` tokens, or `max_tokens` where that
    is less, until it ends. Forget nothing: every `sent` needs its `ended`, which may come twice.
    """

    def __init__(self, replica_ids: Sequence[int], expected_output: int) -> None:
        self._expected = expected_output
        self.tokens, self.prefill_tokens, self.sequences, self.context_tokens = (Tally(replica_ids) for _ in range(4))
        self._open: dict[int, tuple[int, int, int, bool]] = {}  # rid → (replica, prefill tokens, output tokens, prefilled)

    def __len__(self) -> int:
        """Requests under way."""
        return len(self._open)

    def sent(self, request: RoutedRequest, replica_id: int, prefill_tokens: int) -> None:
        """`prefill_tokens`: of the prompt, as many as are not thought to be cached there."""
        output = min(request.max_tokens, self._expected)
        self._open[request.rid] = replica_id, prefill_tokens, output, False
        self.tokens.add(replica_id, prefill_tokens + output)
        self.prefill_tokens.add(replica_id, prefill_tokens)
        self.sequences.add(replica_id, 1)

    def first_token(self, request: RoutedRequest) -> None:
        entry = self._open.get(request.rid)
        if entry is None or entry[3]:
            return
        replica_id, prefill_tokens, output, _ = entry
        self._open[request.rid] = replica_id, prefill_tokens, output, True
        self.tokens.add(replica_id, -prefill_tokens)
        self.prefill_tokens.add(replica_id, -prefill_tokens)
        self.context_tokens.add(replica_id, request.prompt.tokens + output // 2)

    def ended(self, request: RoutedRequest) -> None:
        entry = self._open.pop(request.rid, None)
        if entry is None:
            return
        replica_id, prefill_tokens, output, prefilled = entry
        self.sequences.add(replica_id, -1)
        self.tokens.add(replica_id, -output if prefilled else -output - prefill_tokens)
        if prefilled:
            self.context_tokens.add(replica_id, -request.prompt.tokens - output // 2)
        else:
            self.prefill_tokens.add(replica_id, -prefill_tokens)

    def keep(self, replica_ids: Sequence[int]) -> None:
        """The pool is these from now on; what is under way elsewhere is forgotten."""
        for tally in (self.tokens, self.prefill_tokens, self.sequences, self.context_tokens):
            tally.keep(replica_ids)
        self._open = {rid: entry for rid, entry in self._open.items() if entry[0] in replica_ids}
