"""A try as HTTP: which body goes to which replica, and who reads the response. It does not choose the replica."""

from typing import TYPE_CHECKING

from routers.serve.client_connection import ClientConnection
from routers.serve.pairs import HalfReader, PrefillReader, decode_body, pair_body, prefill_body
from routers.serve.replica_connection import Handle, Reader
from routers.serve.replica_link import ReplicaLink
from routers.serve.settings import ServeSettings
from routers.tries import Try

if TYPE_CHECKING:
    from routers.serve.relay import Relay


class Dispatch:
    """`links` is the pool's, by replica."""

    def __init__(self, links: dict[int, ReplicaLink], settings: ServeSettings) -> None:
        self._links, self._settings = links, settings

    def send(self, relay: "Relay", attempt: Try, client: ClientConnection) -> tuple[Handle, Handle | None]:
        """Send a try; of a pair that goes to both replicas at once, the second handle is the prefill's."""
        link = self._links[attempt.replica_id]
        stage = attempt.stage
        if stage == "serve":
            return self.post(relay, link, client, relay.body), None
        asked = relay.ask.json
        if stage == "prefill":
            return self.post(PrefillReader(relay), link, client, prefill_body(asked)), None
        if stage == "decode":
            return self.post(relay, link, client, decode_body(asked, relay.kv_transfer)), None
        assert attempt.decision.prefill_id is not None
        prefill = self._links[attempt.decision.prefill_id]
        body = pair_body(asked, prefill.address, self._settings.bootstrap_port)
        half = self.post(HalfReader(relay), prefill, client, body)
        return self.post(relay, link, client, body), half

    def post(self, reader: Reader, link: ReplicaLink, client: ClientConnection, body: bytes) -> Handle:
        """The client's request with this body."""
        head = client.head
        assert head is not None
        told = client.peer if self._settings.forwarded_for else None
        request = head.for_replica(link.host, link.prefix, len(body), told)
        return link.send(reader, request + body, head.method == "HEAD")
