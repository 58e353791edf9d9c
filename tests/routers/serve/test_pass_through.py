"""What goes through the router unchanged, and the little that must not."""

import asyncio
import json

import pytest

from tests.routers.serve.bench import ASK, PATH, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, OK, Exchange, FakeReplica, chunk, event, stream, whole

ODD_STREAM = b'5;name="value"\r\ndata:\r\n000A\r\n {}\n\ndata:\r\n9\r\n [DONE]\n\n\r\n0\r\nx-trailer: 1\r\n\r\n'


def answering(data: bytes, close: bool = False) -> FakeReplica:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        if close:
            exchange.writer.close()

    return FakeReplica(script)


@pytest.mark.parametrize(
    ("answer", "close"),
    [
        (stream({"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}), False),
        (EVENTS_HEAD + ODD_STREAM, False),
        (whole(json.dumps(OK, indent=2).encode() + b"\r\n0\r\n\r\n"), False),
        (whole(b""), False),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {}\n\ndata: [DONE]\n\n", True),
        (b"HTTP/1.0 200 OK\r\n\r\nwhatever, until it closes", True),
        (whole(b'{"object": "error", "message": "no", "code": 400}', "400 Bad Request"), False),
        (whole(b"gone", "410 Gone", "content-type: text/plain\r\n"), False),
    ],
    ids=["stream", "odd framing", "length", "empty", "close", "http/1.0", "error", "other error"],
)
@pytest.mark.parametrize("dribble", [False, True])
def test_the_body_comes_through_byte_by_byte(answer: bytes, close: bool, dribble: bool) -> None:
    async def script(exchange: Exchange) -> None:
        pieces = [answer[i : i + 1] for i in range(len(answer))] if dribble else [answer]
        for piece in pieces:
            await exchange.send(piece)
            if dribble:
                await asyncio.sleep(0)
        if close:
            exchange.writer.close()

    async def test(bench: Bench) -> None:
        reply = await bench.ask()
        assert reply.whole
        assert reply.status == int(answer.split()[1])
        assert reply.raw_body == answer.partition(b"\r\n\r\n")[2]

    run(test, FakeReplica(script))


def test_the_request_body_comes_through_unchanged() -> None:
    body = b'{ "prompt" : "caf\\u00e9 \xf0\x9f\x90\x82",\n "max_tokens":4, "unknown": [1.50, 1e3] }'

    async def test(bench: Bench) -> None:
        assert (await bench.ask(body, path=PATH + "?a=b%20c")).json == OK
        asked = bench.replicas[0].asked[0]
        assert (asked.method, asked.target, asked.body) == ("POST", PATH + "?a=b%20c", body)

    run(test, FakeReplica())


def test_events_are_passed_on_as_they_come() -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD + event({"n": 1}))
        await go_on.wait()
        await exchange.send(event(b"[DONE]") + LAST_CHUNK)

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, {**ASK, "stream": True})
        async with asyncio.timeout(2):
            assert b"200 OK" in await client.read_until(b'{"n": 1}')
        go_on.set()
        assert (await client.read_until(LAST_CHUNK)).endswith(b"[DONE]\n\n\r\n" + LAST_CHUNK)

    run(test, FakeReplica(script))


def test_connections_are_kept_on_both_sides() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        for _ in range(5):
            assert (await client.ask()).status == 200
        replica = bench.replicas[0]
        assert len(replica.asked) == 5
        assert len({asked.connection for asked in replica.asked}) == 1
        assert len(bench.proxy.connections) == 1

    run(test, FakeReplica())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(whole(exchange.asked.body))

    async def test(bench: Bench) -> None:
        client = await bench.client()
        for n in range(20):
            client.send("POST", PATH, {"prompt": "x" * n})
        assert [len((await client.reply()).json["prompt"]) for _ in range(20)] == list(range(20))

    run(test, FakeReplica(script))


def test_a_request_may_come_in_pieces() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        body = json.dumps(ASK).encode()
        for byte in b"\r\nPOST %b HTTP/1.1\r\nhost: r\r\ncontent-length: %d\r\n\r\n%b" % (PATH.encode(), len(body), body):
            client.writer.write(bytes((byte,)))
            await asyncio.sleep(0.0005)
        assert (await client.reply()).json == OK

    run(test, FakeReplica())


def test_a_chunked_request_is_sent_on_whole() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        body = json.dumps(ASK).encode()
        pieces = b"".join(chunk(body[i : i + 7]) for i in range(0, len(body), 7))
        head = b"POST /v1/completions HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
        client.writer.write(head + pieces + b"0\r\n\r\n")
        assert (await client.reply()).json == OK
        asked = bench.replicas[0].asked[0]
        assert (asked.body, asked.header("content-length"), asked.header("transfer-encoding")) == (body, str(len(body)), None)

    run(test, FakeReplica())


def test_a_client_that_waits_for_100_gets_it() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        body = json.dumps(ASK).encode()
        client.writer.write(
            b"POST /v1/completions HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(body)
        assert (await client.reply()).json == OK
        assert bench.replicas[0].asked[0].header("expect") is None

    run(test, FakeReplica())


def test_interim_responses_are_not_the_answer() -> None:
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"

    async def test(bench: Bench) -> None:
        assert (await bench.ask()).body == b"{}"

    run(test, answering(early + whole(b"{}")))


def test_what_asks_for_no_tokens_goes_past_the_policy() -> None:
    models = b'{"object": "list", "data": []}'

    async def test(bench: Bench) -> None:
        client = await bench.client()
        assert (await client.ask(method="GET", path="/v1/models?x=1", headers="authorization: Bearer k\r\n")).body == models
        assert (await client.ask({"prompt": "x"}, path="/tokenize")).body == models
        head = await client.ask(method="HEAD", path="/v1/models")
        assert (head.status, head.header("content-length")) == (200, str(len(models)))
        counted = await bench.metrics()
        assert counted["stampede_router_plain_requests_total"] == 3
        assert not any(name.startswith("stampede_router_decisions_total") for name in counted)
        seen = [asked for replica in bench.replicas for asked in replica.asked]
        assert {(a.method, a.target) for a in seen} == {
            ("GET", "/v1/models?x=1"),
            ("POST", "/tokenize"),
            ("HEAD", "/v1/models"),
        }
        assert {a.header("authorization") for a in seen} == {None, "Bearer k"}

    async def script(exchange: Exchange) -> None:
        answer = whole(models)
        await exchange.send(answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if exchange.asked.method == "HEAD" else answer)

    run(test, FakeReplica(script), FakeReplica(script))


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/flush_cache"), ("GET", "/flush_cache"), ("POST", "/fault"), ("POST", "/x"), ("PUT", "/")]
)
def test_what_is_a_matter_of_one_replica_is_not_served(method: str, path: str) -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask(method=method, path=path)
        assert (reply.status, reply.json["error"]["type"]) == (404, "not_found_error")
        assert bench.replicas[0].asked == []

    run(test, FakeReplica())


def test_the_policy_chooses_and_its_reasons_are_counted() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        for _ in range(6):
            await client.ask()
        assert [len(replica.asked) for replica in bench.replicas] == [2, 2, 2]
        counted = await bench.metrics()
        for replica in bench.replicas:
            made = [n for name, n in counted.items() if "decisions_total" in name and replica.url in name]
            assert made == [2]

    run(test, FakeReplica(), FakeReplica(), FakeReplica())


def test_unused_connections_are_closed_before_the_replica_does() -> None:
    from routers.serve.settings import Timeouts

    async def test(bench: Bench) -> None:
        await bench.ask()
        link = bench.proxy.links[0]
        await until(lambda: link.idle_connections == 0 and link.open_connections == 0, 3)

    from routers.serve.settings import Health

    run(test, FakeReplica(), timeouts=Timeouts(pooled_s=0.2), health=Health(every_s=30))
