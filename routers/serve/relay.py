"""One client's request, between the router and a replica: what the router wants done, and what it must hear. No bytes here."""

import logging
from time import monotonic
from typing import TYPE_CHECKING

from routers.serve.answer_relay import AnswerRelay
from routers.serve.ask import Ask
from routers.serve.client_connection import ClientConnection
from routers.serve.openai_error import error_body
from routers.serve.replica_connection import Handle
from routers.tries import RequestEnd, Try

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy

log = logging.getLogger("stampede.router")

GATEWAY_TIMEOUT = 504
_MESSAGES = {0: "the replica's connection was lost", 502: "the replica sent no valid response", 503: "no replica can serve this"}


class Relay(AnswerRelay):
    """From the client's request until its answer is written, or it hangs up. `rid` is its name in the router."""

    __slots__ = ("_told", "ask", "body", "kv_transfer", "rid")

    def __init__(self, proxy: "Proxy", client: ClientConnection, rid: int, ask: Ask, body: bytes, now_s: float) -> None:
        super().__init__(proxy, client, now_s)
        self.rid, self.ask, self.body = rid, ask, body
        self.kv_transfer: object = None
        self._told: Try | None = None  # the last try

    # The router's effects on it

    def send(self, attempt: Try, now_s: float) -> None:
        """A try begins: the request goes out."""
        self._attempt = self._told = attempt
        self._head, self._relaying, self._first_s, self._reads = None, False, None, 0
        self._before = self._last = b""
        self._sent_s = self._clock_s = now_s
        self._handle, self._half = self._proxy.dispatch.send(self, attempt, self._client)
        self._proxy.wheel.add(self, self._due_s())

    def wait(self) -> None:
        """The router has it: for how long?"""
        if self.slot < 0 and self._client.answerer is self:
            self._proxy.wheel.add(self, self._due_s())

    def give_up(self, orphan: bool) -> None:
        """A guard has lost patience: the try is to stop, or to work on for nobody."""
        attempt, self._attempt, self._head = self._attempt, None, None
        if attempt is not None:
            self._proxy.metrics.on_given_up(attempt)
            self._log(attempt, "given up", 0, "", monotonic())
        if orphan:
            for handle in (self._handle, self._half):
                if handle is not None:
                    handle.discard(orphan=True)
            self._handle = self._half = None
        self._drop()

    def answer(self, end: RequestEnd, now_s: float) -> None:
        """The router is done with it."""
        self._attempt = None
        self._proxy.metrics.on_answer(end, now_s - self.started_s)
        if end.ok or self._head is not None:
            return  # the response itself is the answer
        if self._relaying:
            self._cut_off()
            return
        self._leave()
        message = end.error or _MESSAGES.get(end.status, "")
        status = end.status or 502
        self._client.respond(status, error_body(status, message))

    # The prefill replica's response, of a pair

    def on_prefill_end(self, kv_transfer: object) -> None:
        """A prefill is done: the decode may begin with what it said (vLLM)."""
        self._handle = None
        attempt = self._take_attempt()
        assert attempt is not None
        self.kv_transfer = kv_transfer
        now_s = monotonic()
        self._proxy.metrics.on_try_end(attempt, True, 200)
        self._log(attempt, "ok", 200, "", now_s)
        self._proxy.router.on_try_end(attempt.try_id, True, 200, now_s)
        self._proxy.wake(now_s)

    def on_half_end(self) -> None:
        """The prefill half of a pair is done (SGLang)."""
        self._half = None
        if self._attempt is not None:
            self._proxy.router.on_prefilled(self._attempt.try_id)

    def on_half_moved(self, handle: Handle) -> None:
        self._half = handle

    def on_half_refused(self, status: int) -> None:
        half, self._half = self._half, None
        if half is not None:
            half.discard()
        self.on_half_broken(status, f"HTTP {status} from the prefill replica")

    def on_half_broken(self, status: int, error: str) -> None:
        """The prefill half of a pair has failed: without it the decode would wait for ever."""
        self._half = None
        attempt = self._attempt
        if attempt is None or self._relaying:
            return  # the decode has what it needs
        self._drop()
        self._head = None
        self._end_try(False, status, error, at=attempt.decision.prefill_id)

    # The client

    def on_client_gone(self) -> None:
        """It hung up."""
        now_s = monotonic()
        attempt = self._take_attempt()
        self._leave()
        self._proxy.relays.pop(self.rid, None)
        self._proxy.metrics.on_hang_up(attempt)
        if attempt is not None:
            self._log(attempt, "aborted", 0, "the client hung up", now_s)
        self._proxy.router.on_cancel(self.rid, now_s)
        self._proxy.wake(now_s)
        self._drop()

    # Time

    def on_due(self, now_s: float) -> None:
        """Something has lasted too long, or it is only time to look again."""
        due_s = self._due_s()
        if due_s > now_s:
            self._proxy.wheel.add(self, due_s)
        elif self._stalled_s is not None and now_s < self._total_s:
            self._client.abort()  # `connection_lost` does the rest
        elif self._attempt is not None:
            what = "no answer in time" if self._first_s is None else "it fell silent"
            self.abandon(GATEWAY_TIMEOUT, f"timeout: {what}")
            if self._client.answerer is self:
                self._proxy.wheel.add(self, self._due_s())
        elif self._handle is not None:
            self._drop()
            self._cut_off()
        else:
            self._expire(now_s)

    # Inside

    def _end_try(
        self, ok: bool, status: int, error: str, made: int = 0, cached: int | None = None, at: int | None = None
    ) -> None:
        """Tell the router; `_head` stays only if this response is to be the answer."""
        attempt = self._take_attempt()
        assert attempt is not None
        now_s = monotonic()
        proxy = self._proxy
        proxy.metrics.on_try_end(attempt, ok, status)
        self._log(attempt, "ok" if ok else "failed", status, error, now_s, made, cached)
        try:
            proxy.router.on_try_end(attempt.try_id, ok, status, now_s, error, made, cached, at)
        except Exception:  # a fault of ours must not leave a client waiting
            log.exception("the end of a try at %s", proxy.name_of(attempt.replica_id))
            if proxy.relays.pop(self.rid, None) is not None and not ok:
                self.answer(RequestEnd(False, 500, "the router failed", attempt), now_s)
        proxy.wake(now_s)
        if self.rid in proxy.relays and not self._relaying:
            self._head = None  # it will be tried again
            handle, self._handle = self._handle, None
            if handle is not None and status >= 400:
                handle.discard()
            self._drop()

    def _first_byte(self, attempt: Try, now_s: float) -> None:
        self._proxy.metrics.on_first_byte(attempt, now_s - self.started_s)
        try:
            self._proxy.router.on_first_token(attempt.try_id, now_s)
        except Exception:
            log.exception("the first token from %s", self._proxy.name_of(attempt.replica_id))

    def _who(self) -> bytes:
        if not self._proxy.settings.tell_replica or self._told is None:
            return b""
        return b"x-stampede-replica: %d\r\nx-stampede-try: %d\r\n" % (self._told.replica_id, self._told.router_try)

    def _log(
        self, attempt: Try, outcome: str, status: int, error: str, now_s: float, made: int = 0, cached: int | None = None
    ) -> None:
        log = self._proxy.request_log
        if log is not None:
            log.write(attempt, outcome, status, error, self._sent_s, self._first_s, now_s, made, cached)

    def _take_attempt(self) -> Try | None:
        """The try under way is so no more."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._proxy.tries.pop(attempt.try_id, None)
        return attempt

    def _expire(self, now_s: float) -> None:
        """It waited in the router for too long."""
        self._leave()
        self._proxy.relays.pop(self.rid, None)
        self._proxy.router.on_cancel(self.rid, now_s)
        self._proxy.wake(now_s)
        self._proxy.metrics.on_expired()
        self._client.respond(GATEWAY_TIMEOUT, error_body(GATEWAY_TIMEOUT, "timeout: it waited too long in the router"))
