"""What stands behind a client's connection: who takes its requests, and who answers one. Only their shape is here."""

from typing import TYPE_CHECKING, Protocol

from routers.serve.request_head import RequestHead
from routers.serve.settings import ServeSettings
from routers.serve.wheel import Wheel

if TYPE_CHECKING:
    from routers.serve.client_connection import ClientConnection


class Answerer(Protocol):
    """What is answering a client's request."""

    def on_client_gone(self) -> None: ...

    def on_client_full(self) -> None:
        """The client reads slower than is written."""

    def on_client_reading(self) -> None:
        """It has caught up."""


class Front(Protocol):
    """What stands behind the clients' connections."""

    settings: ServeSettings
    wheel: Wheel

    @property
    def draining(self) -> bool:
        """Every answer is the last one of its connection."""

    def on_connection(self, connection: "ClientConnection") -> bool:
        """False: there are too many."""

    def on_connection_lost(self, connection: "ClientConnection") -> None: ...

    def on_request(self, connection: "ClientConnection", head: RequestHead, body: bytes) -> None: ...

    def buffered(self, change: int) -> bool:
        """Bytes of request bodies come (False: there is no room) or go."""
