"""Any bytes from either side, cut anywhere: nothing raises, and everything ends once."""

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from routers.serve.client_connection import ClientConnection
from routers.serve.proxy import Proxy
from routers.serve.replica_connection import ReplicaConnection
from routers.serve.replica_link import Address
from routers.serve.response_head import ResponseHead
from routers.serve.settings import Limits
from tests.routers.serve.bench import SETTINGS
from tests.routers.serve.fake_replica import stream, whole

WHOLE = (
    whole(b'{"a": 1}'),
    whole(b"no", "503 Busy"),
    stream({"n": 1}, {"n": 2}),
    stream({"error": {"code": 503}}),
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" + whole(b""),
    b"HTTP/1.0 200 OK\r\n\r\nuntil it closes",
)
ASK = json.dumps({"prompt": "x"}).encode()
REQUESTS = (
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(ASK), ASK),
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK),
    b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    b"\r\n\r\nGET /health HTTP/1.0\r\n\r\n",
)


@st.composite
def spoilt(draw: st.DrawFn, good: tuple[bytes, ...]) -> list[bytes]:
    """One or two whole messages with some bytes changed, in pieces."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(good), min_size=1, max_size=2))))
    for _ in range(draw(st.integers(0, 3))):
        at, put = draw(st.integers(0, len(data) - 1)), draw(st.binary(max_size=3))
        data[at : at + draw(st.integers(0, 3))] = put
        if not data:
            break
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=6)))
    edges = [0, *cuts, len(data)]
    return [bytes(data[a:b]) for a, b in pairwise(edges) if b > a]


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and closes when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.out += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = write_eof = close

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Ends:
    """Hears what becomes of a response."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_head(self, head: ResponseHead) -> None:
        self.heard.append("head")

    def on_data(self, data: bytes) -> None:
        assert data
        assert self.heard[-1] in ("head", "data")
        self.heard.append("data")

    def on_end(self) -> None:
        self.heard.append("end")

    def on_broken(self, status: int, error: str) -> None:
        self.heard.append("broken")

    def on_moved(self, handle: object) -> None:
        self.heard.append("moved")


def proxy() -> Proxy:
    made = Proxy(("round_robin", {}), [], [(Address.of("http://127.0.0.1:9"), "both")], replace(SETTINGS, limits=LIMITS))
    made.set_healthy(0, True)
    return made


LIMITS = Limits(body_bytes=2000, header_bytes=1000, headers=20)


@settings(max_examples=400, deadline=None)
@given(spoilt(WHOLE))
def test_a_response_ends_once_whatever_comes(pieces: list[bytes]) -> None:
    async def go() -> None:
        link, ends, wire = proxy().links[0], Ends(), Wire()
        connection = ReplicaConnection(link)
        connection.connection_made(wire)
        connection.start(ends, b"request", False)
        for piece in pieces:
            if not wire.closed:
                connection.data_received(piece)
        connection.connection_lost(None)
        assert ends.heard.count("end") + ends.heard.count("broken") == 1
        assert ends.heard[-1] in ("end", "broken")
        assert ends.heard.count("head") <= 1
        assert link.idle_connections == 0

    asyncio.run(go())


@settings(max_examples=400, deadline=None)
@given(spoilt(REQUESTS), spoilt(WHOLE))
def test_a_client_gets_an_answer_or_a_close_whatever_it_sends(request: list[bytes], response: list[bytes]) -> None:
    async def go() -> None:
        front, wire, replica_wire = proxy(), Wire(), Wire()
        kept = ReplicaConnection(front.links[0])
        kept.connection_made(replica_wire)
        front.links[0].keep(kept)
        client = ClientConnection(front)
        client.connection_made(wire)
        for piece in request:
            if not wire.closed:
                client.data_received(piece)
        for piece in response:
            if not replica_wire.closed:
                kept.data_received(piece)
        kept.connection_lost(None)
        client.connection_lost(None)
        assert front.router.open_requests == 0
        assert [(v.in_flight, v.in_flight_tokens) for v in front.router.views] == [(0, 0)]
        assert (front.relays, front.tries, front.connections, front.buffered_bytes) == ({}, {}, set(), 0)
        front.links[0].abort()
        await asyncio.sleep(0)

    asyncio.run(go())
