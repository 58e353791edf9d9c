"""Clients that hang up, stall, send half or too much: each costs the router little, and the replica stops for nobody's sake."""

import asyncio
import json
import socket

import pytest

from routers.serve.replica_connection import ReplicaConnection
from routers.serve.settings import Health, Limits, Timeouts
from tests.routers.serve.bench import ASK, PATH, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, OK, Exchange, FakeReplica, event, whole


async def silent(exchange: Exchange) -> None:
    await exchange.until_gone()
    raise ConnectionError


async def endless(exchange: Exchange) -> None:
    await exchange.send(EVENTS_HEAD)
    while True:
        await exchange.send(event({"text": "x" * 4000}))


async def slow(exchange: Exchange) -> None:
    await exchange.send(EVENTS_HEAD + event({"n": 1}))
    await silent(exchange)


@pytest.mark.parametrize("script", [silent, slow, endless], ids=["before the first byte", "in the stream", "in a flood"])
def test_a_hang_up_stops_the_replica(script: object) -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, {**ASK, "stream": True})
        await until(lambda: bench.in_flight == [1])
        if script is not silent:
            await client.read_until(b"data:")
        client.close()
        await until(lambda: bench.replicas[0].gone == 1 and bench.in_flight == [0])
        assert (await bench.metrics())['stampede_router_requests_total{outcome="hung up",status="0"}'] == 1

    run(test, FakeReplica(script))  # type: ignore[arg-type]


def test_a_hang_up_drops_what_a_guard_holds() -> None:
    async def test(bench: Bench) -> None:
        first, second = await bench.client(), await bench.client()
        first.send("POST", PATH, ASK)
        await until(lambda: bench.in_flight == [1])
        second.send("POST", PATH, ASK)
        await until(lambda: bench.proxy.router.held_requests == 1)
        second.close()
        await until(lambda: bench.proxy.router.held_requests == 0)
        first.close()
        await until(lambda: bench.proxy.router.open_requests == 0)
        assert len(bench.replicas[0].asked) == 1

    run(test, FakeReplica(silent), guards=[("queue", {"cap": 1})])


def test_a_hang_up_during_a_connect_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = asyncio.Event()

    async def test(bench: Bench) -> None:
        link, client = bench.proxy.links[0], await bench.client()
        await until(lambda: link.idle_connections == 1)
        link.sweep(float("inf"))
        dial = link._open_connection

        async def slowly() -> ReplicaConnection:
            await connect.wait()
            return await dial()

        monkeypatch.setattr(link, "_open_connection", slowly)
        client.send("POST", PATH, ASK)
        await until(lambda: bench.in_flight == [1])
        client.close()
        await until(lambda: bench.in_flight == [0])
        connect.set()
        await until(lambda: link.idle_connections == 1)
        assert (await bench.ask()).json == OK
        assert len(bench.replicas[0].asked) == 1

    run(test, FakeReplica(), health=Health(every_s=30.0))


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"CONNECT other:443 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 505),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000, 431),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n", 413),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000, 413),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n" + b"x" * 800, 408),
        (b"POST /v1/x HT", 408),
        (b"POST /v1/x HTTP/1.1\r\nhost: x\r\n", 408),
    ],
)
def test_what_is_no_request_is_answered_once_and_hung_up_on(data: bytes, status: int) -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(data)
        reply = await client.reply()
        assert (reply.status, reply.json["error"]["code"], reply.header("connection")) == (status, status, "close")
        assert await client.gone()
        assert (bench.replicas[0].asked, bench.proxy.buffered_bytes) == ([], 0)

    run(test, FakeReplica(), limits=Limits(body_bytes=1000), timeouts=Timeouts(head_s=0.2, body_s=0.2))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"prompt": [1, "a"]}', b'{"prompt": [99999999999999999999]}'],
)
def test_a_body_that_is_no_request_is_400(body: bytes) -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, body)
        reply = await client.reply()
        assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")
        assert (await client.ask()).json == OK

    run(test, FakeReplica())


def test_an_unused_connection_is_closed_without_a_word() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        await client.ask()
        assert await client.gone()
        fresh = await bench.client()
        assert await fresh.gone()

    run(test, FakeReplica(), timeouts=Timeouts(keep_alive_s=0.2))


def test_too_many_connections_are_turned_away() -> None:
    async def test(bench: Bench) -> None:
        kept = [await bench.client() for _ in range(3)]
        for client in kept:
            assert (await client.ask()).json == OK
        extra = await bench.client()
        reply = await extra.reply()
        assert (reply.status, reply.json["error"]["message"]) == (503, "too many connections")
        assert await extra.gone()
        kept[0].close()
        await until(lambda: len(bench.proxy.connections) == 2)
        assert (await bench.ask()).json == OK
        assert bench.proxy.metrics.turned_away == 1

    run(test, FakeReplica(), limits=Limits(connections=3))


def test_request_bodies_have_a_bound_together() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + b"{" * 300_000)
        await until(lambda: bench.proxy.buffered_bytes >= 250_000)
        other = await bench.client()
        other.writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 500000\r\n\r\n" + b"{" * 300_000)
        assert (await other.reply()).status == 503
        client.close()
        await until(lambda: bench.proxy.buffered_bytes == 0)
        assert (await bench.ask({"prompt": "x" * 300_000})).json == OK

    run(test, FakeReplica(), limits=Limits(buffered_bytes=400_000))


def test_a_slow_reader_holds_the_replica_back_and_costs_little_memory() -> None:
    size = 200 << 20
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await exchange.send(b"x" * (1 << 16))
            sent += 1 << 16

    async def test(bench: Bench) -> None:
        client = await bench.client(limit=1 << 16)
        client.send("POST", PATH, ASK)
        last = -1
        while sent != last:
            last = sent
            await asyncio.sleep(0.15)
        assert sent < size / 4, "the sockets' buffers are full, and so is the router's"
        (connection,) = (c for c in bench.proxy.connections if c.head is not None)
        assert connection.full
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 1 << 20
        got = len(await client.reader.readuntil(b"\r\n\r\n"))
        while got < 40 << 20:
            got += len(await client.reader.read(1 << 20))
        assert sent > last

    run(test, FakeReplica(flood))


def test_a_client_that_reads_nothing_is_hung_up_on_and_no_failure_of_the_replica() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client(limit=1 << 10)
        client.send("POST", PATH, {**ASK, "stream": True})
        await until(lambda: bench.replicas[0].gone == 1)
        counted = await bench.metrics()
        assert counted['stampede_router_requests_total{outcome="hung up",status="0"}'] == 1
        assert not any('outcome="failed"' in name for name in counted)

    run(test, FakeReplica(endless), timeouts=Timeouts(stalled_s=0.2))


def test_a_slow_reader_gets_every_byte() -> None:
    body = json.dumps({"text": "0123456789" * 300_000}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.send(whole(body))

    async def test(bench: Bench) -> None:
        client = await bench.client(limit=1 << 12)
        client.send("POST", PATH, ASK)
        got = b""
        while not got.endswith(body[-20:]):
            got += await client.reader.read(100_000)
            await asyncio.sleep(0.001)
        assert got.partition(b"\r\n\r\n")[2] == body

    run(test, FakeReplica(script))


def test_a_client_that_only_sends_is_not_answered_without_end() -> None:
    body = b'{"text": "' + b"x" * 300_000 + b'"}'

    async def script(exchange: Exchange) -> None:
        await exchange.send(whole(body))

    async def test(bench: Bench) -> None:
        client = await bench.client(limit=1 << 10)
        small = client.writer.transport.get_extra_info("socket")
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(200):
            client.send("POST", PATH, {"prompt": "x"})
        last = -1
        while len(bench.replicas[0].asked) != last:
            last = len(bench.replicas[0].asked)
            await asyncio.sleep(0.2)
        assert last < 100
        (connection,) = (c for c in bench.proxy.connections if c.full)
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 1 << 20
        await until(lambda: not bench.proxy.connections)

    run(test, FakeReplica(script), timeouts=Timeouts(stalled_s=1.0, keep_alive_s=1.0))


def test_who_does_not_read_the_end_is_hung_up_on() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(whole(b"x" * 30_000_000))

    async def test(bench: Bench) -> None:
        client = await bench.client(limit=1 << 10)
        client.send("POST", PATH, ASK, "connection: close\r\n")
        await until(lambda: not bench.proxy.connections)

    run(test, FakeReplica(script), timeouts=Timeouts(stalled_s=0.3, idle_s=0.3))


def test_what_a_client_sends_ahead_is_bounded() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go_on.wait()
        await exchange.send(whole(b"{}"))

    async def test(bench: Bench) -> None:
        client = await bench.client()
        requests = 30
        for _ in range(requests):
            client.send("POST", PATH, {"prompt": "x" * 10_000})
        await until(lambda: bench.in_flight == [1])
        await asyncio.sleep(0.05)
        (connection,) = bench.proxy.connections
        assert len(connection._buffer) < 64_000 + (1 << 18), "one read more than the limit"
        go_on.set()
        assert [(await client.reply()).status for _ in range(requests)] == [200] * requests

    run(test, FakeReplica(script))
