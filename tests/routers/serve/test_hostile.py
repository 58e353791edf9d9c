"""What an attacker would try: each has one clear answer, and leaves nothing behind."""

import asyncio
import errno
import json
from pathlib import Path

import pytest

from routers.serve.body_end import BadFraming, ChunkedEnd
from routers.serve.client_connection import ClientConnection
from routers.serve.paths import kind_of
from routers.serve.request_log import RequestLog
from routers.serve.settings import Limits
from tests.routers.serve.bench import ASK, PATH, Bench, Client, run, until
from tests.routers.serve.fake_replica import OK, Exchange, FakeReplica

CHUNKED = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),  # whose request is it?
        (b"GET /v1/models#x HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"GET http://evil/v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 400),
        (b"TRACE /v1/models HTTP/1.1\r\nhost: x\r\n\r\n", 501),  # it would show the client's key
        (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /v1/models HTTP/1.1\nhost: x\n\nGET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n", 400),  # bare line feeds
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),  # a folded line
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n", 400),
        (b"GET /v1/mod\x9b2Jels HTTP/1.1\r\nhost: x\r\n\r\n", 400),  # a terminal's control character
        (CHUNKED.replace(b"1.1", b"1.0") + b"2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED.replace(b"transfer", b"transfer-encoding: gzip\r\ntransfer") + b"2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED.replace(b"transfer", b"content-length: 2\r\ntransfer") + b"2\r\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2;a\n{}\r\n0\r\n\r\n", 400),
        (CHUNKED + b"2\r\n{}\r\n0\r\nx: y\n\nGET /v1/x HTTP/1.1\r\n\r\n", 400),
        (CHUNKED + b"1\r\n \r\n" * 6000, 400),  # nothing but chunk sizes
    ],
)
def test_doubtful_requests_reach_no_replica(data: bytes, status: int) -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(data)
        assert (await client.reply()).status == status
        assert await client.gone()
        assert bench.replicas[0].asked == []

    run(test, FakeReplica())


def test_many_small_chunks_are_refused_and_a_few_are_not() -> None:
    end = ChunkedEnd()
    assert end.feed(b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n") == 6005
    assert end.sizes_read == 1001
    with pytest.raises(BadFraming, match="line break"):
        ChunkedEnd().feed(b"0\r\na: b\rc\r\n\r\n")


@pytest.mark.parametrize(
    "path",
    [
        "/flush_cache",
        "/%66lush_cache",
        "//flush_cache",
        "/v1/../flush_cache",
        "/v1/%2e%2e/flush_cache",
        "/v1/..",
        "/release_memory_occupation",  # SGLang serves these to GET
        "/slow_down",
        "/start_profile",
        "/v1/load_lora_adapter",
        "/%6detrics",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_operators_paths_are_passed_on_under_no_name(method: str, path: str) -> None:
    assert kind_of(method, path.encode()) in ("private", "unknown")


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/chat/completions", "work"),
        ("POST", "/generate", "work"),
        ("GET", "/v1/models", "plain"),
        ("GET", "/v1/models/meta%2Dllama/x", "plain"),
        ("GET", "/version", "plain"),
        ("GET", "/", "plain"),
        ("POST", "/tokenize", "plain"),
    ],
)
def test_a_clients_paths_are(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path.encode()) == kind


def test_a_body_too_large_is_told_so_though_it_is_still_being_sent() -> None:
    """Closing at once would reset the connection, and the client would never read why."""

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9000000\r\n\r\n")
        for _ in range(90):
            client.writer.write(b"x" * 100_000)
            await client.writer.drain()
        assert (await client.reply()).status == 413
        assert await client.gone()
        client.close()
        await until(lambda: not bench.proxy.connections)

    run(test, FakeReplica(), limits=Limits(body_bytes=1000))


def test_who_never_stops_sending_after_a_refusal_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routers.serve.client_connection._LINGER_S", 0.1)

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.writer.write(b"GET / HTTP/9.9\r\n\r\n")
        assert (await client.reply()).status == 400
        await until(lambda: not bench.proxy.connections, 2)

    run(test, FakeReplica())


def test_a_list_of_millions_of_values_is_not_read() -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask(b'{"prompt": [' + b"1," * 4_000_001 + b"1]}")
        assert (reply.status, "values" in reply.error) == (413, True)
        assert (await bench.ask()).json == OK

    run(test, FakeReplica())


def test_a_body_that_can_be_read_and_not_written_again_leaves_no_count() -> None:
    """A pair's bodies are made anew, deeper in the stack than they were read."""

    async def test(bench: Bench) -> None:
        for depth in range(900, 1000, 4):
            body = b'{"prompt": "x", "z": ' + b"[" * depth + b"]" * depth + b"}"
            assert (await bench.ask(body)).status in (400, 502)
        assert bench.in_flight == [0, 0]
        assert bench.proxy.router.open_requests == 0

    run(test, FakeReplica(), FakeReplica(), policy=("pd_pair", {}), roles=["prefill", "decode"])


def test_a_fault_of_the_policy_is_500_and_leaves_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        def fail(*_: object) -> None:
            raise KeyError("a fault of ours")

        monkeypatch.setattr(bench.proxy.dispatch, "send", fail)
        assert (await bench.ask()).status == 500
        monkeypatch.undo()
        assert bench.in_flight == [0]
        assert bench.proxy.router.open_requests == 0
        assert (await bench.ask()).json == OK

    run(test, FakeReplica())


def test_a_full_disk_costs_the_log_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")

    async def test(bench: Bench) -> None:
        with RequestLog(full) as log:
            bench.proxy.request_log = log
            for _ in range(3):
                assert (await bench.ask()).json == OK
                log.flush()
        assert bench.proxy.router.open_requests == 0

    run(test, FakeReplica())
    assert [r.getMessage() for r in caplog.records if "logged" in r.message] == [
        "/dev/full: No space left on device; no more requests are logged"
    ]


def test_files_running_out_are_no_fault_of_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        async def out_of_files() -> ClientConnection:
            raise OSError(errno.EMFILE, "Too many open files")

        link = bench.proxy.links[0]
        await until(lambda: link.idle_connections > 0)
        link._idle.pop().drop()
        before = bench.proxy.watches[0].checks[False]
        monkeypatch.setattr(link, "_open_connection", out_of_files)
        reply = await bench.ask()
        monkeypatch.undo()
        assert (reply.status, reply.error) == (502, "cannot connect: Too many open files")
        assert bench.proxy.watches[0].checks[False] == before

    run(test, FakeReplica())


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 000 X\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n"]
)
def test_a_status_that_is_none_is_502(answer: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(answer)

    async def test(bench: Bench) -> None:
        assert (await bench.ask()).status == 502

    run(test, FakeReplica(script))


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("DELETE", "/replicas/" + "1" * 5000, b"", "", 404),
        ("POST", "/replicas", b'{"url": "http://x:1", "role": []}', "", 400),
        ("POST", "/replicas", b"[" * 9000, "", 400),
        ("POST", "/replicas", b'{"url": "http://[::1"}', "", 400),
        ("POST", "/replicas", b'{"url": "http://127.0.0.1:9"}', "origin: http://evil.example\r\n", 403),
        ("GET", "/replicas", b"", "origin: null\r\n", 403),
    ],
)
def test_hostile_words_at_the_operators_port_change_nothing(
    method: str, path: str, body: bytes, headers: str, status: int
) -> None:
    async def test(bench: Bench) -> None:
        assert bench.server.admin_port is not None
        client = Client(*await asyncio.open_connection("127.0.0.1", bench.server.admin_port))
        bench.stack.callback(client.close)
        client.send(method, path, body, headers)
        reply = await client.reply(method)
        assert (reply.status, json.loads(reply.body)["error"]["code"]) == (status, status)
        assert list(bench.proxy.watches) == [0]

    run(test, FakeReplica())


def test_what_is_sent_while_draining_begins_is_answered() -> None:
    """A client between two requests may have sent the next one already."""

    async def test(bench: Bench) -> None:
        client = await bench.client()
        await client.ask()
        draining = asyncio.ensure_future(bench.server.drain(5))
        await asyncio.sleep(0.1)
        client.send("POST", PATH, ASK)
        reply = await client.reply()
        assert (reply.json, reply.header("connection")) == (OK, "close")
        assert await draining

    run(test, FakeReplica())


def test_an_answer_without_content_has_no_length() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello")

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, ASK)
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"
        client.send("GET", "/health")
        assert (await client.reply()).status == 200

    run(test, FakeReplica(script))
