"""One request and its answer on one connection, until the answer is whole. It keeps no books and decides nothing."""

from typing import Protocol

from replay.client import ClientAttempt
from replay.rows import OpenAttempt
from replay.send.connection import Connection
from replay.send.events import BadEvent, Events
from replay.send.response import BadResponse, Response
from replay.send.target import Target
from replay.send.verdict import Verdict, broken, judge

_MOST_BODY_BYTES = 4096  # of an answer that is no stream


class Owner(Protocol):
    """Who is told what happens; times are the wire's `now_s`."""

    def at_s(self) -> float: ...

    def on_first_token(self, exchange: "Exchange", now_s: float) -> None: ...

    def on_end(self, exchange: "Exchange", verdict: Verdict, now_s: float) -> None: ...

    def on_reusable(self, connection: Connection) -> None: ...

    def on_unfinished(self, connection: Connection) -> None:
        """The answer has ended, but not its HTTP message: the connection waits for that."""

    def resend(self, exchange: "Exchange") -> None:
        """A kept connection was closed before the first byte came: the peer's idle timeout, most likely."""


class Exchange:
    """`asked_tokens`: see `judge`. `last_s`: when the latest tokens came; `max_gap_s`: the longest wait between two lots."""

    __slots__ = (
        *("_body", "_owner", "asked_tokens", "attempt", "connection", "ended", "events", "given_up", "last_s", "max_gap_s"),
        *("request", "resent", "response", "row", "target"),
    )

    def __init__(
        self,
        owner: Owner,
        attempt: ClientAttempt,
        row: OpenAttempt,
        target: Target,
        request: bytes,
        asked_tokens: int | None,
        keeps: str,
    ) -> None:
        self._owner = owner
        self.attempt, self.row, self.target, self.request, self.asked_tokens = attempt, row, target, request, asked_tokens
        self.response, self.events = Response(), Events(keeps)
        self.connection: Connection | None = None
        self.ended = self.given_up = self.resent = False
        self.last_s: float | None = None
        self.max_gap_s = 0.0
        self._body = b""

    def begin(self, connection: Connection) -> None:
        self.connection = connection
        connection.reader = self
        connection.send(self.request)

    def cancel(self) -> None:
        """Hang up; nobody is told."""
        self.ended = True
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    # The connection's calls --------------------------------------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        response, events = self.response, self.events
        before = events.chunks
        try:
            for piece in response.feed(data):
                if response.status == 200:
                    events.feed(piece)
                else:
                    self._body = (self._body + piece)[:_MOST_BODY_BYTES]
        except (BadResponse, BadEvent) as error:
            self._end(broken("stream", error))
            self.cancel()
            return
        if events.chunks != before:
            self._note_tokens()
        if response.complete or events.done:
            self._end(judge(response.status, events, response.complete, self.asked_tokens, self._body))
            if response.complete:
                self._leave()
            elif self.connection is not None:
                self._owner.on_unfinished(self.connection)

    def on_lost(self, what: str, error: OSError | None) -> None:
        connection, self.connection = self.connection, None
        if self.ended:
            return
        kept = connection is not None and connection.uses > 1
        if kept and not (self.response.started or self.resent or self.given_up):
            self.resent = True
            self._owner.resend(self)
            return
        self.response.on_eof()
        if error is not None:
            self._end(broken(what, error))
        else:
            self._end(judge(self.response.status, self.events, self.response.complete, self.asked_tokens, self._body))

    # Inside ------------------------------------------------------------------------------------------------------------

    def _note_tokens(self) -> None:
        now_s = self._owner.at_s()
        if self.last_s is None:
            self.request = b""  # it will not be sent again
            self._owner.on_first_token(self, now_s)
        elif now_s - self.last_s > self.max_gap_s:
            self.max_gap_s = now_s - self.last_s
        self.last_s = now_s

    def _end(self, verdict: Verdict) -> None:
        if not self.ended:
            self.ended = True
            self._owner.on_end(self, verdict, self._owner.at_s())

    def _leave(self) -> None:
        """The answer is whole: the connection goes back, or closes."""
        connection, self.connection = self.connection, None
        if connection is None:
            return
        if self.response.reusable and not connection.unsent:
            self._owner.on_reusable(connection)
        else:
            connection.close()
