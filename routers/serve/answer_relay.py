"""A replica's answer on its way to the client: bytes pass through as they come. It knows no router and no policy.

The head of an answer waits for the first bytes of its body: until then the request may still go to another replica.
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from routers.serve.answer_facts import TAIL, is_done, stream_error, usage
from routers.serve.client_connection import ClientConnection
from routers.serve.replica_connection import Handle
from routers.serve.response_head import ResponseHead
from routers.serve.unchunked import Unchunked
from routers.tries import Try

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy

_SHORT = 64
ENDS_WITH_DONE = frozenset((b"/v1/completions", b"/v1/chat/completions"))


class AnswerRelay:
    """Between one client and the replica that is asked on its behalf; who is asked, and what an end means, is its heirs' matter.

    `_attempt` is the try under way; None: the request waits in the router, or what comes is its answer for good.
    """

    __slots__ = (
        "_attempt",
        "_before",
        "_client",
        "_clock_s",
        "_first_s",
        "_half",
        "_handle",
        "_head",
        "_last",
        "_proxy",
        "_reads",
        "_relaying",
        "_sent_s",
        "_stalled_s",
        "_total_s",
        "_write",
        "slot",
        "started_s",
    )

    def __init__(self, proxy: "Proxy", client: ClientConnection, now_s: float) -> None:
        self._proxy, self._client = proxy, client
        self.started_s = now_s
        self.slot = -1
        self._attempt: Try | None = None
        self._handle: Handle | None = None
        self._half: Handle | None = None  # the prefill half of a pair
        self._head: ResponseHead | None = None
        self._relaying = False  # something of this response has gone to the client
        self._before = self._last = b""
        self._reads = 0
        self._write: Callable[[bytes], None]
        self._sent_s = self._clock_s = now_s
        self._first_s: float | None = None
        self._stalled_s: float | None = None
        self._total_s = now_s + proxy.settings.timeouts.total_s
        client.answerer = self

    # What heirs add

    def on_client_gone(self) -> None:
        raise NotImplementedError

    def on_due(self, now_s: float) -> None:
        raise NotImplementedError

    def _first_byte(self, attempt: Try, now_s: float) -> None:
        raise NotImplementedError

    def _end_try(
        self, ok: bool, status: int, error: str, made: int = 0, cached: int | None = None, at: int | None = None
    ) -> None:
        """The try has ended; `_head` stays only if this response is to be the answer."""
        raise NotImplementedError

    def _who(self) -> bytes:
        """Header lines that tell who answers."""
        return b""

    # The replica's response

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        if head.status >= 400:
            self._end_try(False, head.status, f"HTTP {head.status}")
            if self._head is not None:
                self._begin()

    def on_data(self, data: bytes) -> None:
        self._clock_s = monotonic()
        if self._relaying:
            if len(data) < _SHORT and len(self._last) < TAIL:
                self._last += data  # a piece of an event: the stream's end may come in several
            else:
                self._before, self._last = self._last, data
            self._reads += 1
            self._write(data)
            return
        head = self._head
        assert head is not None
        self._last = data
        self._reads = 1
        if head.event_stream:
            status = stream_error(data)
            if status is not None:
                self._end_try(False, status, "an error inside the stream")
                if self._head is None:
                    return
        self._begin(data)

    def on_end(self) -> None:
        self._handle = None
        self._drop()
        if not self._relaying and self._head is not None:
            self._begin()
        if self._attempt is not None:
            self._end_whole()
        if self._client.answerer is self:
            self._leave()
            self._client.finish()

    def on_broken(self, status: int, error: str) -> None:
        self._handle = None
        if self._attempt is not None:
            relayed = self._relaying
            self._head = None
            self._end_try(False, status, error, self._reads if relayed else 0)
            if relayed and self._client.answerer is self:
                self._cut_off()
        else:
            self._cut_off()  # the body of an error response

    def on_moved(self, handle: Handle) -> None:
        self._handle = handle

    def abandon(self, status: int, error: str) -> None:
        """What comes is of no use."""
        self._drop()
        self.on_broken(status, error)

    # The client reads

    def on_client_full(self) -> None:
        self._stalled_s = monotonic()
        if self._handle is not None:
            self._handle.pause()
            self._proxy.wheel.add(self, self._due_s())

    def on_client_reading(self) -> None:
        self._stalled_s = None
        self._clock_s = monotonic()
        if self._handle is not None:
            self._handle.resume()

    # Inside

    def _due_s(self) -> float:
        timeouts = self._proxy.settings.timeouts
        if self._attempt is None and self._handle is None:
            return self._total_s
        if self._stalled_s is not None:
            due_s = self._stalled_s + timeouts.stalled_s
        elif self._reads == 0:
            due_s = self._sent_s + timeouts.first_byte_s
        else:
            due_s = self._clock_s + timeouts.idle_s
        return min(due_s, self._total_s)

    def _begin(self, data: bytes = b"") -> None:
        """The response becomes the answer."""
        head, client = self._head, self._client
        assert head is not None
        body = head.body
        self._relaying = True
        if self._attempt is not None:
            self._first_s = self._clock_s
            self._first_byte(self._attempt, self._clock_s)
        transport = client.transport
        if transport is None:
            return
        self._write = transport.write
        if self._proxy.looks_again:
            self._proxy.wheel.add(self, self._due_s())
        if head.chunked and client.head is not None and not client.head.modern:
            transport.write(b"".join((head.unchunked, self._who(), client.head_end(True))))
            write = self._write = Unchunked(transport.write).feed
            write(data)
        else:
            end = client.head_end(body is not None and body.ends_with_connection)
            transport.write(b"".join((head.for_client, self._who(), end, data)))
        if client.full:
            self.on_client_full()  # of earlier answers, or of this one's beginning

    def _end_whole(self) -> None:
        """The response is whole: was it well?"""
        head = self._head
        assert head is not None
        tail = (self._before + self._last)[-TAIL:]
        ok, status, error = True, head.status, ""
        if head.event_stream:
            inside = stream_error(tail)
            if inside is not None:
                ok, status, error = False, inside, "an error inside the stream"
            elif self._client.head is not None and self._client.head.path in ENDS_WITH_DONE and not is_done(tail):
                ok, status, error = False, 0, "truncated stream"
        made, cached = usage(tail)
        self._end_try(ok, status, error, self._reads if made is None else made, cached)

    def _cut_off(self) -> None:
        """The answer cannot be made whole, and its client must see so."""
        self._leave()
        self._drop()
        self._client.abort()

    def _drop(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.drop()
        half, self._half = self._half, None
        if half is not None:
            half.drop()

    def _leave(self) -> None:
        self._proxy.wheel.remove(self)
        if self._client.answerer is self:
            self._client.answerer = None
