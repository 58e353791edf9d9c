"""A request that asks for no tokens (`GET /v1/models`, …): passed to any healthy replica, past the policy and its counts."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from routers.serve.client_connection import ClientConnection
from routers.serve.openai_error import error_body
from routers.serve.replica_connection import Handle
from routers.serve.replica_link import ReplicaLink
from routers.serve.response_head import ResponseHead
from routers.serve.unchunked import Unchunked

if TYPE_CHECKING:
    from routers.serve.proxy import Proxy


class PlainRelay:
    """From the client's request until its answer is written, or it hangs up."""

    def __init__(self, proxy: "Proxy", client: ClientConnection, link: ReplicaLink, body: bytes) -> None:
        self._proxy, self._client = proxy, client
        self._begun = False
        self._write: Callable[[bytes], None]
        self.slot = -1
        self._clock_s = time.monotonic()
        client.answerer = self
        self._handle: Handle | None = proxy.dispatch.post(self, link, client, body)
        self._watch()

    def on_head(self, head: ResponseHead) -> None:
        client = self._client
        self._begun = True
        if client.transport is not None:
            self._write = client.transport.write
            if head.chunked and client.head is not None and not client.head.modern:
                client.transport.write(head.unchunked + client.head_end(True))
                self._write = Unchunked(client.transport.write).feed
            else:
                end = client.head_end(head.body is not None and head.body.ends_with_connection)
                client.transport.write(head.for_client + end)
            if client.full:
                self.on_client_full()  # of earlier answers

    def on_data(self, data: bytes) -> None:
        self._clock_s = time.monotonic()
        if self._client.transport is not None:
            self._write(data)

    def on_end(self) -> None:
        self._handle = None
        self._leave()
        self._client.finish()

    def on_broken(self, status: int, error: str) -> None:
        self._handle = None
        self._leave()
        if self._begun:
            self._client.abort()
        else:
            self._client.respond(status or 502, error_body(status or 502, error))

    def on_moved(self, handle: Handle) -> None:
        self._handle = handle

    def on_client_gone(self) -> None:
        self._leave()
        self._drop()

    def on_client_full(self) -> None:
        if self._handle is not None:
            self._handle.pause()

    def on_client_reading(self) -> None:
        if self._handle is not None:
            self._handle.resume()

    def on_due(self, now_s: float) -> None:
        """Nothing has moved for too long, be it the replica's fault or the client's."""
        if self._clock_s + self._proxy.settings.timeouts.idle_s > now_s:
            self._watch()
        else:
            self._drop()
            self.on_broken(504, "timeout: it fell silent")

    def _watch(self) -> None:
        self._proxy.wheel.add(self, self._clock_s + self._proxy.settings.timeouts.idle_s)

    def _drop(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.drop()

    def _leave(self) -> None:
        self._proxy.wheel.remove(self)
        if self._client.answerer is self:
            self._client.answerer = None
