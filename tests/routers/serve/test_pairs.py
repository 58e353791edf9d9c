"""Prefill and decode replicas, told of each other as vLLM and as SGLang want it."""

import asyncio
import json
from typing import Any

import pytest

from replicas.view import Role
from tests.routers.serve.bench import ASK, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, Exchange, FakeReplica, chunk, event, stream, whole

PD: Any = {"policy": ("pd_pair", {}), "roles": ("prefill", "decode")}
SGLANG: Any = {**PD, "pairs": "sglang"}
TRANSFER = {
    "do_remote_prefill": True,
    "remote_engine_id": "e1",
    "remote_block_ids": [4, 5],
    "remote_host": "h",
    "remote_port": 5600,
}
STREAMED = {**ASK, "stream": True, "stream_options": {"include_usage": True}, "max_completion_tokens": 9, "min_tokens": 3}


async def prefill(exchange: Exchange) -> None:
    await exchange.send(whole(json.dumps({"choices": [], "kv_transfer_params": TRANSFER}).encode()))


async def decode(exchange: Exchange) -> None:
    await exchange.send(stream({"choices": [{"text": "a"}]}))


def test_vllm_prefills_one_token_and_tells_the_decode_replica_where_its_kv_is() -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask(STREAMED, headers="authorization: Bearer k\r\nx-request-id: r1\r\n")
        assert reply.raw_body == stream({"choices": [{"text": "a"}]}).partition(b"\r\n\r\n")[2]
        (first,), (second,) = bench.replicas[0].asked, bench.replicas[1].asked
        assert first.json == {
            "model": "m",
            "prompt": "hello",
            "stream": False,
            "max_tokens": 1,
            "max_completion_tokens": 1,
            "min_tokens": 1,
            "kv_transfer_params": {
                "do_remote_decode": True,
                "do_remote_prefill": False,
                "remote_engine_id": None,
                "remote_block_ids": None,
                "remote_host": None,
                "remote_port": None,
            },
        }
        assert second.json == {**STREAMED, "kv_transfer_params": TRANSFER}
        for asked in (first, second):
            assert (asked.header("authorization"), asked.header("x-request-id")) == ("Bearer k", "r1")
            assert asked.header("content-length") == str(len(asked.body))

    run(test, FakeReplica(prefill), FakeReplica(decode), **PD)


def test_vllms_prefill_may_answer_in_chunks() -> None:
    body = json.dumps({"kv_transfer_params": TRANSFER}).encode()

    async def chunked(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        await exchange.send(head + chunk(body[:9]) + chunk(body[9:]) + LAST_CHUNK)

    async def test(bench: Bench) -> None:
        assert (await bench.ask(STREAMED)).status == 200
        assert bench.replicas[1].asked[0].json["kv_transfer_params"] == TRANSFER

    run(test, FakeReplica(chunked), FakeReplica(decode), **PD)


def test_vllms_refused_prefill_is_the_answer() -> None:
    refusal = whole(b'{"error": {"code": 400}}', "400 Bad Request")

    async def refuse(exchange: Exchange) -> None:
        await exchange.send(refusal)

    async def test(bench: Bench) -> None:
        reply = await bench.ask(STREAMED)
        assert (reply.status, reply.raw_body) == (400, refusal.partition(b"\r\n\r\n")[2])
        assert bench.replicas[1].asked == []

    run(test, FakeReplica(refuse), FakeReplica(decode), **PD)


@pytest.mark.parametrize("answer", [b"{}", b"[]", b"no json", b'{"kv_transfer_params": null}'])
def test_vllms_prefill_without_a_transfer_is_502(answer: bytes) -> None:
    async def odd(exchange: Exchange) -> None:
        await exchange.send(whole(answer))

    async def test(bench: Bench) -> None:
        reply = await bench.ask(STREAMED)
        assert (reply.status, reply.error) == (502, "the prefill replica sent no kv_transfer_params")
        assert bench.replicas[1].asked == []

    run(test, FakeReplica(odd), FakeReplica(decode), **PD)


def test_vllms_failed_prefill_is_retried_on_another() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(whole(b"{}", "503 Service Unavailable"))

    async def test(bench: Bench) -> None:
        for _ in range(6):
            assert (await bench.ask(STREAMED)).status == 200
        assert len(bench.replicas[1].asked) == len(bench.replicas[2].asked) == 6

    guards: list[tuple[str, dict[str, object]]] = [("retry", {"exclude": "tried", "backoff_s": 0.001})]
    roles: tuple[Role, ...] = ("prefill", "prefill", "decode")
    run(test, FakeReplica(refuse), FakeReplica(prefill), FakeReplica(decode), policy=("pd_pair", {}), roles=roles, guards=guards)


@pytest.mark.parametrize("at", [0, 1])
def test_a_hang_up_stops_whichever_half_is_at_work(at: int) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()
        raise ConnectionError

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/completions", STREAMED)
        await until(lambda: len(bench.replicas[at].asked) == 1)
        client.close()
        await until(lambda: bench.replicas[at].gone == 1 and bench.in_flight == [0, 0])

    replicas = [FakeReplica(prefill), FakeReplica(decode)]
    replicas[at].script = silent
    run(test, *replicas, **PD)


class Meeting:
    """SGLang's bootstrap: a prefill ends only once the decode replica has fetched its KV."""

    def __init__(self) -> None:
        self.fetched = asyncio.Event()
        self.prefilled = asyncio.Event()

    async def prefill(self, exchange: Exchange) -> None:
        self.prefilled.set()
        await self.fetched.wait()
        await exchange.send(stream({"choices": [{"text": "a"}]}))

    async def decode(self, exchange: Exchange) -> None:
        await self.prefilled.wait()
        self.fetched.set()
        await exchange.send(stream({"choices": [{"text": "a"}]}, {"choices": [{"text": "b"}]}))


def test_sglang_gets_the_same_body_at_both_replicas_at_once() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        rooms = set()
        for _ in range(3):
            meeting = Meeting()
            bench.replicas[0].script, bench.replicas[1].script = meeting.prefill, meeting.decode
            async with asyncio.timeout(3):
                reply = await client.ask(STREAMED)
            assert reply.body.count(b"data:") == 3, "the decode replica's answer"
            first, second = bench.replicas[0].asked[-1], bench.replicas[1].asked[-1]
            assert first.body == second.body
            added = first.json
            room = added.pop("bootstrap_room")
            assert 0 <= room < 1 << 63
            rooms.add(room)
            assert added == {**STREAMED, "bootstrap_host": "127.0.0.1", "bootstrap_port": 8998}
        assert len(rooms) == 3
        await until(lambda: bench.in_flight == [0, 0])
        assert {asked.connection for asked in bench.replicas[1].asked} <= {1, 2}, "kept"

    run(test, FakeReplica(), FakeReplica(), **SGLANG)


def test_sglangs_bootstrap_port_is_each_prefill_replicas_own_and_batches_get_a_room_each() -> None:
    async def test(bench: Bench) -> None:
        await bench.ask({"prompt": ["a", "b"], "max_tokens": 1})
        added = bench.replicas[1].asked[0].json
        assert (added["bootstrap_host"], added["bootstrap_port"]) == (["127.0.0.1"] * 2, [9123] * 2)
        assert len(set(added["bootstrap_room"])) == 2

    async def go() -> None:
        async with FakeReplica() as one, FakeReplica() as two:
            ports.extend((one.port, two.port))

    ports: list[int] = []
    asyncio.run(go())
    replicas = [FakeReplica(port=ports[0]), FakeReplica(port=ports[1])]
    run(test, *replicas, addresses=[f"http://127.0.0.1:{ports[0]},9123", f"http://127.0.0.1:{ports[1]}"], **SGLANG)


def test_both_halves_count_until_each_is_done() -> None:
    go_on = asyncio.Event()

    async def decoding(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD + event({"n": 1}))
        await go_on.wait()
        await exchange.send(event(b"[DONE]") + LAST_CHUNK)

    async def prefilling(exchange: Exchange) -> None:
        await prefilled.wait()
        await exchange.send(whole(b"{}"))

    prefilled = asyncio.Event()

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/completions", STREAMED)
        await client.read_until(b'{"n": 1}')
        assert bench.in_flight == [1, 1]
        prefilled.set()
        await until(lambda: bench.in_flight == [0, 1])
        go_on.set()
        await client.read_until(LAST_CHUNK)
        await until(lambda: bench.in_flight == [0, 0])

    run(test, FakeReplica(prefilling), FakeReplica(decoding), **SGLANG)


def test_sglangs_failed_prefill_ends_the_decode_and_is_blamed() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(whole(b"{}", "500 Oops"))

    async def waiting(exchange: Exchange) -> None:
        await exchange.until_gone()
        raise ConnectionError

    async def test(bench: Bench) -> None:
        reply = await bench.ask(STREAMED)
        assert (reply.status, reply.error) == (500, "HTTP 500 from the prefill replica")
        await until(lambda: bench.replicas[1].gone == 1)
        breaker = bench.proxy.router.guards[0]
        assert [breaker.admits(i, 0.0) for i in (0, 1)] == [False, True]

    run(test, FakeReplica(refuse), FakeReplica(waiting), guards=[("breaker", {"failures": 1})], **SGLANG)


@pytest.mark.parametrize("at", [0, 1])
def test_a_lost_half_of_a_pair_is_tried_again_elsewhere(at: int) -> None:
    async def lose(exchange: Exchange) -> None:
        exchange.writer.transport.abort()

    async def both(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        await exchange.send(stream({"n": 1}))

    async def test(bench: Bench) -> None:
        for _ in range(4):
            assert (await bench.ask(STREAMED)).body.count(b"data:") == 2

    replicas = [FakeReplica(both) for _ in range(4)]
    replicas[at * 2].script = lose
    roles: tuple[Role, ...] = ("prefill", "prefill", "decode", "decode")
    guards: list[tuple[str, dict[str, object]]] = [("retry", {"exclude": "tried", "backoff_s": 0.001})]
    run(test, *replicas, policy=("pd_pair", {}), roles=roles, guards=guards, pairs="sglang")


def test_a_hang_up_stops_both_halves() -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.until_gone()
        raise ConnectionError

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", "/v1/completions", STREAMED)
        await until(lambda: bench.in_flight == [1, 1])
        await until(lambda: all(replica.asked for replica in bench.replicas))
        client.close()
        await until(lambda: [replica.gone for replica in bench.replicas] == [1, 1])
        assert bench.in_flight == [0, 0]

    run(test, FakeReplica(silent), FakeReplica(silent), **SGLANG)
