"""Heads: what stays on its hop, what is told on request, and how old or fussy clients are served."""

import asyncio

import pytest

from tests.routers.serve.bench import Bench, run
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, OK, Exchange, FakeReplica, chunk, event, whole


def test_hop_by_hop_headers_stay_on_their_hop() -> None:
    answer = whole(
        b"{}", headers="connection: keep-alive, X-Secret-Hop\r\nx-secret-hop: 1\r\nkeep-alive: timeout=5\r\nx-stays: 2\r\n"
    )

    async def script(exchange: Exchange) -> None:
        await exchange.send(answer)

    async def test(bench: Bench) -> None:
        headers = (
            "connection: x-mine, keep-alive\r\nx-mine: 1\r\nkeep-alive: 3\r\nte: trailers\r\nproxy-authorization: k\r\n"
            "upgrade-insecure-requests: 1\r\nAuthorization: Bearer sk-1\r\nx-request-id: 7\r\n"
        )
        reply = await bench.ask(headers=headers)
        assert reply.headers == [("x-stays", "2"), ("content-length", "2")]
        asked = bench.replicas[0].asked[0]
        assert asked.headers == [
            ("host", f"127.0.0.1:{bench.replicas[0].port}"),
            ("upgrade-insecure-requests", "1"),
            ("authorization", "Bearer sk-1"),
            ("x-request-id", "7"),
            ("content-length", str(len(asked.body))),
        ]

    run(test, FakeReplica(script))


@pytest.mark.parametrize(("told", "sent"), [(False, "1.2.3.4"), (True, "1.2.3.4, 127.0.0.1")])
def test_the_clients_address_is_told_on_request(told: bool, sent: str) -> None:
    async def test(bench: Bench) -> None:
        await bench.ask(headers="x-forwarded-for: 1.2.3.4\r\n")
        assert [v for n, v in bench.replicas[0].asked[0].headers if n == "x-forwarded-for"] == [sent]

    run(test, FakeReplica(), forwarded_for=told)


def test_answers_tell_their_replica_on_request() -> None:
    async def test(bench: Bench) -> None:
        for n in range(3):
            reply = await bench.ask()
            assert (reply.header("x-stampede-replica"), reply.header("x-stampede-try")) == (str(n % 2), "1")

    run(test, FakeReplica(), FakeReplica(), tell_replica=True)


def test_a_form_with_files_goes_through_unread() -> None:
    body = b"--b\r\ncontent-disposition: form-data; name=file\r\n\r\n\x00\xff\r\n--b--\r\n"

    async def test(bench: Bench) -> None:
        kind = "content-type: multipart/form-data; boundary=b\r\n"
        assert (await bench.ask(body, path="/v1/audio/transcriptions", headers=kind)).json == OK
        assert bench.replicas[0].asked[0].body == body

    run(test, FakeReplica())


def test_an_offer_to_upgrade_is_not_taken() -> None:
    """Java's client sends one with every first request."""

    async def test(bench: Bench) -> None:
        headers = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n"
        client = await bench.client()
        assert (await client.ask(headers=headers)).json == OK
        assert (await client.ask()).json == OK
        assert bench.replicas[0].asked[0].header("upgrade") is None

    run(test, FakeReplica())


def test_an_http_1_0_client_gets_an_answer_without_chunks() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: [DONE]\n\n")
        exchange.writer.close()

    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask(version="1.0")
        assert (reply.body, reply.whole, reply.header("transfer-encoding")) == (b"data: [DONE]\n\n", True, None)
        assert await client.gone()

    run(test, FakeReplica(script))


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models"])
def test_an_http_1_0_client_gets_a_chunked_answer_without_its_chunks(path: str) -> None:
    """Whatever the client speaks, a replica that answers well is not blamed."""
    events = b"".join(b"data: %d\n\n" % i for i in range(50))

    async def script(exchange: Exchange) -> None:
        for part in (EVENTS_HEAD, chunk(events[:7]), chunk(events[7:]) + event(b"[DONE]")[:9], event(b"[DONE]")[9:], LAST_CHUNK):
            await exchange.send(part)
            await asyncio.sleep(0.01)

    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask(path=path, version="1.0", method="POST" if "comp" in path else "GET")
        assert (reply.status, reply.raw_body, reply.header("transfer-encoding")) == (200, events + b"data: [DONE]\n\n", None)
        assert await client.gone()
        assert (await bench.metrics()).get('stampede_router_requests_total{outcome="ok",status="200"}', 0) == ("comp" in path)

    run(test, FakeReplica(script))


def test_a_client_that_asks_for_it_is_hung_up_on() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask(headers="connection: close\r\n")
        assert (reply.json, reply.header("connection")) == (OK, "close")
        assert await client.gone()

    run(test, FakeReplica())
