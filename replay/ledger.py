"""The books both drivers keep: which client attempt is where, and the row that says so. It knows no clock and no transport."""

from replay.client import ClientAttempt
from replay.recorder import Recorder, to_us
from replay.rows import Attempt
from routers.policy import RoutedRequest
from routers.tries import RequestEnd, Try


class Ledger:
    """Turns what happens into rows, by client attempt (`rid`) and try.

    An attempt that the client gave up without cancelling stays known until the router answers it (orphaned work).
    """

    def __init__(self, recorder: Recorder, max_tokens: int) -> None:
        self._recorder = recorder
        self._max_tokens = max_tokens
        self._attempts: dict[int, ClientAttempt] = {}
        self._row_of: dict[int, Attempt] = {}  # the row of a rid's latest router try
        self._given_up: set[int] = set()

    def start(self, attempt: ClientAttempt) -> RoutedRequest:
        """Register a client attempt; returns what the router may know of it."""
        self._attempts[attempt.rid] = attempt
        root, request = attempt.root, attempt.root.request
        return RoutedRequest(
            attempt.rid,
            request.request_id,
            attempt.number,
            request.session_id,
            request.tenant,
            root.prompt,
            self._max_tokens,
            root.deadline_s,
        )

    def attempt(self, rid: int) -> ClientAttempt:
        return self._attempts[rid]

    def output_tokens(self, rid: int) -> int:
        """The true output length: the trace's, or `max_tokens` where that is less."""
        return min(self._attempts[rid].root.request.output_tokens, self._max_tokens)

    def open_try(self, attempt: Try, now_s: float) -> Attempt:
        """The row of a try that is being sent. The decode half of a PD pair goes on in the row of its prefill."""
        rid = attempt.request.rid
        if attempt.stage == "decode":
            return self._row_of[rid]
        decision, row = attempt.decision, self._row_of.get(rid)
        if row is not None and row.sent_us is None:  # the client gave up while the router held it: that row is this try
            row.client_attempt, row.router_try = self._attempts[rid].number, attempt.router_try
            row.replica_id, row.prefill_id, row.sent_us = decision.replica_id, decision.prefill_id, to_us(now_s)
            row.error = "client gave up before it was sent"
            return row
        row = self._recorder.open_row(self._attempts[rid], attempt.router_try, decision.replica_id, decision.prefill_id, now_s)
        self._row_of[rid] = row
        if rid in self._given_up:
            self.end_row(row, now_s, "timeout", 0, "client gave up before it was sent")
        return row

    def first_token(self, row: Attempt, now_s: float) -> bool:
        """Note the first token; False when the client is not waiting for it any more."""
        if row.ended_us is not None:
            return False
        row.first_token_us = to_us(now_s)
        return True

    def end_row(self, row: Attempt, now_s: float, outcome: str, status: int, error: str) -> None:
        """The client's end of a row; the first one counts."""
        if row.ended_us is None:
            row.ended_us, row.outcome, row.status, row.error = to_us(now_s), outcome, status, error

    def give_up(self, attempt: ClientAttempt, cancel: bool, now_s: float) -> None:
        """The client's patience is over: its open row ends, or a row says that nothing was under way for it."""
        row = self._row_of.get(attempt.rid)
        if row is None or row.ended_us is not None:  # held in the router, or between two router tries
            row = self._row_of[attempt.rid] = self._unsent_row(attempt)
        self.end_row(row, now_s, "timeout", 0, "client gave up")
        if cancel:
            self._forget(attempt.rid)
        else:
            self._given_up.add(attempt.rid)

    def answer(self, rid: int, end: RequestEnd, now_s: float) -> None:
        """The router's last word on a client attempt."""
        if end.last_try is None and rid not in self._given_up:  # it never reached a replica
            row = self._recorder.open_row(self._attempts[rid], 0, None, None, None)
            self.end_row(row, now_s, "refused", end.status, end.error)
        self._forget(rid)

    def close(self, started: list[ClientAttempt], waiting: list[ClientAttempt]) -> None:
        """The run is over; attempts that are at no replica, or were not due yet, get their (censored) row."""
        for attempt in waiting:
            self._recorder.open_row(attempt, 0, None, None, None).error = "waiting for its next attempt"
        for attempt in started:
            row = self._row_of.get(attempt.rid)
            if row is None or row.ended_us is not None:
                self._unsent_row(attempt).error = "held in the router"

    def _unsent_row(self, attempt: ClientAttempt) -> Attempt:
        """The row of an attempt that is at no replica; after an earlier try it is no attempt of its own (`client_attempt` 0)."""
        row = self._recorder.open_row(attempt, 0, None, None, None)
        if attempt.rid in self._row_of:
            row.client_attempt = 0
        return row

    def _forget(self, rid: int) -> None:
        self._attempts.pop(rid, None)
        self._row_of.pop(rid, None)
        self._given_up.discard(rid)
