"""The rows of one sender's attempts: begun when sent, closed when client and engine are both done. It knows no socket."""

from array import array
from collections.abc import Sequence

from replay.client import ClientAttempt
from replay.rows import OpenAttempt
from replay.send.attempt_rows import AttemptRows
from replay.send.events import Events
from replay.send.exchange import Exchange
from replay.send.verdict import Verdict, cached_of, tokens_of
from workloads.request_table import Ints


class Books:
    """One row a client attempt. `replica_id` and the router's try are what the answer's headers say, where it says it.

    Work of an attempt that was hung up is not known, but for the chunks that had come: its tokens are those at least.
    """

    def __init__(self, secret: str = "") -> None:
        self.rows = AttemptRows()
        self.read_lags_s = array("d")  # of first tokens: how long each may have waited before it was seen
        self._secret = secret

    def begin(self, attempt: ClientAttempt, sent_s: float, replica_id: int | None) -> OpenAttempt:
        """The row of an attempt that is being sent, to a replica or (None) to a router."""
        root = attempt.root
        root.recorded += 1
        router_try = 1 if replica_id is not None else None
        due_us, sent_us = _us(attempt.due_s), _us(sent_s)
        return OpenAttempt(
            root.request_id,
            root.recorded,
            attempt.number,
            root.prompt.tokens,
            due_us,
            sent_us,
            router_try,  # NULL behind an opaque router
            replica_id,
        )

    def close_client(self, row: OpenAttempt, now_s: float, verdict: Verdict) -> None:
        """The client's end of a row."""
        row.ended_us = _us(now_s)
        row.outcome, row.status, row.error = verdict
        if self._secret:
            row.error = row.error.replace(self._secret, "***")

    def close(self, exchange: Exchange, ended_s: float | None) -> None:
        """Nobody works on an attempt any more (or, with `ended_s` None, nobody looks): what was done for it."""
        row, events = exchange.row, exchange.events
        row.engine_ended_us = None if ended_s is None else _us(ended_s)
        row.max_gap_us = None if exchange.last_s is None else _us(exchange.max_gap_s)
        self._note_router(exchange)
        self._note_work(row, events)
        self.rows.add(row)

    def wait(self, waiting: Sequence[ClientAttempt]) -> None:
        """Requests whose next attempt was not due when the run ended."""
        for attempt in waiting:
            root = attempt.root
            root.recorded += 1
            row = OpenAttempt(root.request_id, root.recorded, 0, root.prompt.tokens, _us(attempt.due_s))
            row.error = "waiting for its next attempt"
            self.rows.add(row)

    def abandon(self, request_ids: Sequence[int], prompt_tokens: Ints) -> None:
        """Turns that were never sent because their session quit."""
        for request_id in request_ids:
            row = OpenAttempt(request_id, 0, 0, int(prompt_tokens[request_id]))
            row.outcome, row.error = "abandoned", "session quit"
            self.rows.add(row)

    def _note_router(self, exchange: Exchange) -> None:
        headers, row = exchange.response.headers, exchange.row
        replica, number = headers.get(b"x-stampede-replica", b""), headers.get(b"x-stampede-try", b"")
        if replica.isdigit():
            row.replica_id = int(replica)
        if number.isdigit():
            row.router_try = int(number)

    def _note_work(self, row: OpenAttempt, events: Events) -> None:
        tokens = tokens_of(events)
        row.decoded_tokens = max(tokens, events.chunks)
        if events.usage:
            prompt, row.cached_tokens = events.usage.get("prompt_tokens"), cached_of(events)
            row.prefilled_tokens = max(0, (prompt if isinstance(prompt, int) else row.prompt_tokens) - row.cached_tokens)
        if row.outcome != "timeout":
            row.output_tokens = tokens


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
