"""The books both drivers keep: which client attempt is where, and the row that says so. It knows no clock and no transport."""

from replay.client import ClientAttempt
from replay.recorder import Recorder
from replay.rows import OpenAttempt
from routers.policy import RoutedRequest
from routers.tries import RequestEnd, Try


class Ledger:
    """Turns what happens into rows, by client attempt (`rid`) and try.

    An attempt that the client gave up without cancelling stays known until the router answers it (orphaned work).
    """

    def __init__(self, recorder: Recorder, max_tokens: int) -> None:
        self._recorder = recorder
        self._max_tokens = max_tokens
        self.attempts: dict[int, ClientAttempt] = {}

    def start(self, attempt: ClientAttempt) -> RoutedRequest:
        """Register a client attempt; returns what the router may know of it."""
        self.attempts[attempt.rid] = attempt
        root = attempt.root
        return RoutedRequest(
            attempt.rid,
            root.request_id,
            attempt.number,
            root.session_id,
            root.tenant,
            root.prompt,
            self._max_tokens,
            root.deadline_s,
        )

    def attempt(self, rid: int) -> ClientAttempt:
        return self.attempts[rid]

    def output_tokens(self, rid: int) -> int:
        """The true output length: the trace's, or `max_tokens` where that is less."""
        return min(self.attempts[rid].root.output_tokens, self._max_tokens)

    def open_try(self, attempt: Try, now_s: float) -> OpenAttempt:
        """The row of a try that is being sent. The decode half of a PD pair goes on in the row of its prefill."""
        client_attempt = self.attempts[attempt.request.rid]
        row, decision = client_attempt.row, attempt.decision
        sent_us = round(now_s * 1e6)
        if row is not None:
            if attempt.stage == "decode":
                return row
            if row.sent_us is None:  # the client gave up while the router held it: that row is this try
                row.client_attempt, row.router_try = client_attempt.number, attempt.router_try
                row.replica_id, row.prefill_id, row.sent_us = decision.replica_id, decision.prefill_id, sent_us
                row.error = "client gave up before it was sent"
                return row
            row.held -= 1
        row = self._recorder.open_row(client_attempt, sent_us, attempt.router_try, decision.replica_id, decision.prefill_id)
        client_attempt.row = row
        row.held = 1
        if client_attempt.given_up:
            self.end_row(row, now_s, "timeout", 0, "client gave up before it was sent")
        return row

    def first_token(self, row: OpenAttempt, now_s: float) -> bool:
        """Note the first token; False when the client is not waiting for it any more."""
        if row.ended_us is not None:
            return False
        row.first_token_us = round(now_s * 1e6)
        return True

    def end_row(self, row: OpenAttempt, now_s: float, outcome: str, status: int, error: str) -> None:
        """The client's end of a row; the first one counts."""
        if row.ended_us is None:
            row.ended_us, row.outcome, row.status, row.error = round(now_s * 1e6), outcome, status, error

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        """The client's patience is over: its open row ends, or a row says that nothing was under way for it."""
        row = attempt.row
        if row is None or row.ended_us is not None:  # held in the router, or between two router tries
            if row is not None:
                row.held -= 1
            row = attempt.row = self._unsent_row(attempt)
            row.held = 1
        self.end_row(row, now_s, "timeout", 0, "client gave up")
        if cancel:
            del self.attempts[attempt.rid]
            row.held -= 1
        else:
            attempt.given_up = True

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        """The router's last word on a client attempt."""
        attempt = self.attempts.pop(rid)
        if attempt.row is not None:
            attempt.row.held -= 1
        if end.last_try is None and not attempt.given_up:  # it never reached a replica
            self.end_row(self._recorder.open_row(attempt), now_s, "refused", end.status, end.error)

    def close(self, started: list[ClientAttempt], waiting: list[ClientAttempt]) -> None:
        """The run is over; attempts that are at no replica, or were not due yet, get their (censored) row."""
        for attempt in waiting:
            self._recorder.open_row(attempt).error = "waiting for its next attempt"
        for attempt in started:
            if attempt.row is None or attempt.row.ended_us is not None:
                self._unsent_row(attempt).error = "held in the router"

    def _unsent_row(self, attempt: ClientAttempt) -> OpenAttempt:
        """The row of an attempt that is at no replica; after an earlier try it is no attempt of its own (`client_attempt` 0)."""
        row = self._recorder.open_row(attempt)
        if attempt.row is not None:
            row.client_attempt = 0
        return row
