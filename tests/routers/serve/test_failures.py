"""Replicas that fail in every way: the client gets one clear answer or a visible cut, the guards hear of it, nothing is left."""

import asyncio
import socket

import pytest

from routers.serve.proxy import Named
from routers.serve.settings import Health
from tests.routers.serve.bench import ASK, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, OK, Exchange, FakeReplica, Script, event, stream, whole

RETRY: Named = ("retry", {"exclude": "tried", "backoff_s": 0.01})
REFUSED_IN_STREAM = stream({"error": {"message": "full", "type": "ServiceUnavailable", "param": None, "code": 503}})


def sending(data: bytes, close: bool = True) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        if close:
            exchange.writer.close()

    return script


async def silent(exchange: Exchange) -> None:
    await exchange.until_gone()


MALFORMED = {
    "not http": b"hello\r\n\r\n",
    "nothing": b"",
    "binary": bytes(range(256)) * 4 + b"\r\n\r\n",
    "no end of head": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    "status": b"HTTP/1.1 9999 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "both framings": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "encoding": b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    "first size": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "lf only": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    "endless informational": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_answer_is_502(data: bytes) -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask()
        assert (reply.status, reply.json["error"]["code"], reply.json["error"]["type"]) == (502, 502, "server_error")
        bench.replicas[0].script = sending(whole(b"{}"), close=False)
        assert (await client.ask()).status == 200

    run(test, FakeReplica(sending(data)))


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_retry_saves_a_request_from_a_malformed_answer(data: bytes) -> None:
    async def test(bench: Bench) -> None:
        for _ in range(2):
            assert (await bench.ask()).json == OK

    run(test, FakeReplica(sending(data)), FakeReplica(), guards=[RETRY])


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (EVENTS_HEAD + event({"n": 1}), b"zz\r\n"),
        (EVENTS_HEAD + event({"n": 1}), b"5\r\nhello__"),
        (EVENTS_HEAD + event({"n": 1}), b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\ndata", b""),
    ],
    ids=["bad size", "bad end", "closed between chunks", "short of its length"],
)
def test_an_answer_that_breaks_off_is_cut_off_visibly(first: bytes, then: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(first)
        await asyncio.sleep(0.05)
        await exchange.send(then)
        exchange.writer.close()

    async def test(bench: Bench) -> None:
        reply = await bench.ask({**ASK, "stream": True})
        assert (reply.status, reply.whole) == (200, False)
        counted = await bench.metrics()
        assert sum(n for name, n in counted.items() if 'requests_total{outcome="failed"' in name) == 1

    run(test, FakeReplica(script), guards=[RETRY])


def test_more_than_the_answer_is_not_passed_on() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask()
        assert (reply.body, reply.whole) == (b"{}", True)
        bench.replicas[0].script = sending(stream(), close=False)
        assert (await client.ask()).body == b"data: [DONE]\n\n"
        assert bench.replicas[0].asked[-1].connection > 1

    run(test, FakeReplica(sending(whole(b"{}") + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", close=False)))


def test_a_replica_that_is_not_there_is_found_out_at_once() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens here
        url = f"http://127.0.0.1:{held.getsockname()[1]}"

        async def test(bench: Bench) -> None:
            reply = await bench.ask()
            assert (reply.status, reply.error) == (503, "no eligible replica")
            assert (await bench.ask(method="GET", path="/v1/models")).status == 503
            assert (await bench.ask(method="GET", path="/health")).status == 503

        run(test, addresses=[url])


def test_a_replica_that_vanishes_is_taken_out_and_comes_back() -> None:
    async def test(bench: Bench) -> None:
        first, second = bench.replicas
        await first.stop()
        for _ in range(6):
            assert (await bench.ask()).json == OK  # the retries save what was sent there
        await until(lambda: not bench.proxy.router.views[0].healthy)
        before = len(second.asked)
        assert (await bench.ask()).json == OK
        assert len(second.asked) == before + 1
        async with first:
            await until(lambda: bench.proxy.router.views[0].healthy)
            for _ in range(2):
                assert (await bench.ask()).json == OK
            assert first.asked

    run(test, FakeReplica(), FakeReplica(), guards=[RETRY], health=Health(every_s=0.1, timeout_s=0.5))


def test_failing_health_checks_take_a_replica_out() -> None:
    async def test(bench: Bench) -> None:
        sick, well = bench.replicas
        sick.healthy = False
        await until(lambda: not bench.proxy.router.views[0].healthy)
        for _ in range(4):
            await bench.ask()
        assert (len(sick.asked), len(well.asked)) == (0, 4)
        sick.healthy = True
        await until(lambda: bench.proxy.router.views[0].healthy)

    run(test, FakeReplica(), FakeReplica())


def test_a_connection_that_the_replica_closed_meanwhile_costs_nothing() -> None:
    async def answer_then_close(exchange: Exchange) -> None:
        """As uvicorn's idle timeout, just as the next request is under way."""
        await exchange.send(whole(b"{}"))
        await exchange.reader.readuntil(b"\r\n\r\n")
        exchange.writer.transport.abort()

    async def test(bench: Bench) -> None:
        client = await bench.client()
        assert (await client.ask()).status == 200
        bench.replicas[0].script = sending(whole(b'{"again": 1}'), close=False)
        assert (await client.ask()).json == {"again": 1}
        counted = await bench.metrics()
        assert sum(n for name, n in counted.items() if "tries_total" in name) == 2

    run(test, FakeReplica(answer_then_close), health=Health(every_s=30.0))


def test_an_error_status_is_passed_on_as_it_is() -> None:
    answer = whole(b'{"error": {"message": "m", "code": 404}}', "404 Not Found")

    async def test(bench: Bench) -> None:
        reply = await bench.ask()
        assert (reply.status, reply.raw_body) == (404, answer.partition(b"\r\n\r\n")[2])
        assert (await bench.ask()).status == 404
        assert len({asked.connection for asked in bench.replicas[0].asked}) == 1, "its connection is kept"

    run(test, FakeReplica(sending(answer, close=False)), health=Health(every_s=30.0))


def test_the_last_error_is_the_answer_when_retries_end() -> None:
    answer = whole(b"busy", "503 Service Unavailable", "retry-after: 1\r\n")

    async def test(bench: Bench) -> None:
        reply = await bench.ask()
        assert (reply.status, reply.body, reply.header("retry-after")) == (503, b"busy", "1")
        assert len(bench.replicas[0].asked) == 3
        assert len({asked.connection for asked in bench.replicas[0].asked}) == 1, "its connection is kept"

    guard: Named = ("retry", {"max_attempts": 3, "backoff_s": 0.0})
    run(test, FakeReplica(sending(answer, close=False)), guards=[guard], health=Health(every_s=30.0))


@pytest.mark.parametrize("apart", [False, True])
def test_a_refusal_inside_a_stream_is_a_failure(apart: bool) -> None:
    """Engines refuse a stream as HTTP 200 with an error event."""

    async def refuse(exchange: Exchange) -> None:
        head, _, body = REFUSED_IN_STREAM.partition(b"\r\n\r\n")
        await exchange.send(head + b"\r\n\r\n")
        if apart:
            await asyncio.sleep(0.02)
        await exchange.send(body)

    async def alone(bench: Bench) -> None:
        reply = await bench.ask({**ASK, "stream": True})
        assert (reply.status, reply.raw_body) == (200, REFUSED_IN_STREAM.partition(b"\r\n\r\n")[2])
        counted = await bench.metrics()
        assert counted['stampede_router_requests_total{outcome="failed",status="503"}'] == 1

    async def saved(bench: Bench) -> None:
        for _ in range(2):
            assert (await bench.ask({**ASK, "stream": True})).json == OK

    run(alone, FakeReplica(refuse))
    run(saved, FakeReplica(refuse), FakeReplica(), guards=[RETRY])


def test_the_breaker_hears_of_refusals_inside_streams() -> None:
    async def test(bench: Bench) -> None:
        for _ in range(8):
            await bench.ask({**ASK, "stream": True})
        bad, good = bench.replicas
        assert (len(bad.asked), len(good.asked)) == (2, 6)

    bad, good = FakeReplica(sending(REFUSED_IN_STREAM, close=False)), FakeReplica()
    run(test, bad, good, guards=[("breaker", {"failures": 2})])


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (stream({"n": 1}, done=False), 0),
        (stream({"n": 1}, {"error": {"message": "dead", "code": 500}}), 500),
        (stream({"n": 1}, {"object": "error", "message": "dead"}), 500),
    ],
    ids=["no [DONE]", "error event", "old error event"],
)
def test_a_stream_that_ends_badly_is_a_failure_though_it_is_whole(answer: bytes, status: int) -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask({**ASK, "stream": True})
        assert (reply.whole, reply.raw_body) == (True, answer.partition(b"\r\n\r\n")[2])
        counted = await bench.metrics()
        assert counted[f'stampede_router_requests_total{{outcome="failed",status="{status}"}}'] == 1

    run(test, FakeReplica(sending(answer, close=False)), guards=[RETRY])


def test_a_word_in_the_text_is_no_error() -> None:
    answer = stream({"choices": [{"text": '"error": {"code": 503}\n\ndata: {"error"'}]})

    async def test(bench: Bench) -> None:
        await bench.ask({**ASK, "stream": True})
        assert (await bench.metrics())['stampede_router_requests_total{outcome="ok",status="200"}'] == 1

    run(test, FakeReplica(sending(answer, close=False)))


@pytest.mark.parametrize("cut", range(1, 20))
def test_an_end_that_comes_in_pieces_is_an_end(cut: int) -> None:
    """Wherever the network cuts `[DONE]`, and with whatever comes after it apart."""
    done = event(b"[DONE]")

    async def script(exchange: Exchange) -> None:
        for part in (EVENTS_HEAD, event({"choices": [{"text": "x" * 200}]}), done[:cut], done[cut:], LAST_CHUNK):
            await exchange.send(part)
            await asyncio.sleep(0.01)

    async def test(bench: Bench) -> None:
        assert (await bench.ask()).whole
        assert (await bench.metrics())['stampede_router_requests_total{outcome="ok",status="200"}'] == 1

    run(test, FakeReplica(script))
