"""A served replica through its life: clients that hang up or do not read, faults, metrics, its end."""

import asyncio
import gc
import socket
import time
from typing import Any

import pytest

from replicas.served import ServedReplica
from replicas.served.answer import Answer, Choice
from replicas.served.connection import Connection
from replicas.served.event_loop import new_event_loop
from tests.replicas.served_client import Client, connected, profile, serving, until

LONG: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 100_000, "stream": True}


def values(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ["close", "abort"])
def test_a_client_that_hangs_up_frees_its_place(stream: bool, how: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        client.send("POST", "/v1/completions", {**LONG, "stream": stream})
        await until(lambda: replica.engine.running == 1)
        if how == "close":
            client.close()
        else:
            client.writer.transport.abort()
        await until(lambda: replica.engine.running == 0)
        assert replica.clock.open == 0
        assert replica.meter.made_tokens < 1000

    serving(test)


def test_a_client_that_does_not_read_costs_no_memory_and_gets_everything_later() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        connection = next(iter(replica._connections))
        assert connection._transport is not None
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.send("POST", "/v1/completions", {**LONG, "max_tokens": 30_000, "return_token_ids": True})
        await until(lambda: not connection.reading, 10)
        made = replica.clock.running_tokens()
        await asyncio.sleep(0.3)
        assert replica.clock.running_tokens() > made + 1000, "the engine goes on"
        assert connection._transport.get_write_buffer_size() < 100_000, "and nothing is written that would only be held"
        events = (await client.reply()).events
        assert events[-1] == "[DONE]"
        ids = [i for e in events[:-1] for i in e["choices"][0]["token_ids"]]
        assert len(ids) == 30_000
        assert len(events) < 30_000, "tokens that came meanwhile share a chunk"

    # Steps of 50 µs: the socket's own buffers are full within a second.
    fast = profile().to_json()
    serving(test, type(profile()).from_json({**fast, "step": {**dict.fromkeys(fast["step"], 0), "base_s": 5e-5}}))


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_metrics_count_what_happened(flavour: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        for _ in range(2):
            await client.ask("POST", "/v1/completions", {"prompt": list(range(100)), "max_tokens": 10})
        async with connected(replica) as other:
            other.send("POST", "/v1/completions", LONG)
            await until(lambda: replica.engine.running == 1)
            reply = await client.ask("GET", "/metrics")
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        seen = {name.partition("{")[0]: value for name, value in values(reply.body.decode()).items()}
        if flavour == "vllm":
            assert seen["vllm:num_requests_running"] == 1
            assert seen["vllm:prefix_cache_hits_total"] == 96
            assert seen["vllm:prefix_cache_queries_total"] == 203
            assert seen["vllm:prompt_tokens_total"] >= 200
            assert seen["vllm:generation_tokens_total"] >= 20
            assert seen["vllm:time_to_first_token_seconds_count"] >= 2
            assert seen["vllm:e2e_request_latency_seconds_count"] == 2
            assert seen["vllm:inter_token_latency_seconds_count"] == 18
            assert 0 < seen["vllm:kv_cache_usage_perc"] < 1
            assert 'finished_reason="length"' in reply.body.decode()
            assert (await client.ask("GET", "/load")).json == {"server_load": 1}
        else:
            assert seen["sglang:num_running_reqs"] == 1
            assert seen["sglang:cached_tokens_total"] == 96
            assert seen["sglang:num_requests_total"] == 2
            assert seen["sglang:max_total_num_tokens"] == 28_934 * 16
            load = (await client.ask("GET", "/v1/loads")).json["loads"][0]
            assert (load["num_running_reqs"], load["num_waiting_reqs"]) == (1, 0)
            info = (await client.ask("GET", "/get_server_info")).json
            assert info["max_total_num_tokens"] == 28_934 * 16

    serving(test, flavour=flavour)


@pytest.mark.parametrize(
    ("flavour", "queue"), [("vllm", "vllm:request_queue_time_seconds"), ("sglang", "sglang:queue_time_seconds")]
)
def test_the_time_in_the_queue_is_told(flavour: str, queue: str) -> None:
    """One place and two requests: the second waits for as long as the first takes, then is as fast."""

    async def test(replica: ServedReplica, client: Client) -> None:
        async with connected(replica) as other:
            for each in (other, client):
                each.send("POST", "/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 40})
            await other.reply()
            await client.reply()
        meter, seen = replica.meter, values((await client.ask("GET", "/metrics")).body.decode())
        by_name = {name.partition("{")[0]: value for name, value in seen.items()}
        assert by_name[f"{queue}_count"] == 2
        assert by_name[f"{queue}_sum"] == pytest.approx(meter.inference_s.sum / 2, rel=0.05)
        assert meter.queue_s.sum + meter.inference_s.sum == pytest.approx(meter.e2e_s.sum, rel=0.05)  # and the front end
        assert meter.prefill_s.sum + meter.decode_s.sum == pytest.approx(meter.inference_s.sum)
        if flavour == "vllm":
            assert by_name["vllm:request_decode_time_seconds_count"] == by_name["vllm:request_prefill_time_seconds_count"] == 2

    serving(test, profile(max_running=1), flavour=flavour)


def test_requests_leave_nothing_to_the_garbage_collector() -> None:
    """Else it would stop all streams whenever it comes: answers and connections go with their last reference."""

    async def test(replica: ServedReplica, client: Client) -> None:
        ask = {"prompt": [1, 2, 3], "max_tokens": 4}
        for body in (ask, {**ask, "stream": True}, {**ask, "max_tokens": 0}, b"{bad", LONG):
            async with connected(replica) as one:
                one.send("POST", "/v1/completions", body)
                await (until(lambda: replica.engine.running == 1) if body is LONG else one.reply())
        await until(lambda: replica.engine.running == 0 and len(replica._connections) == 1)
        await asyncio.sleep(0.05)
        kinds = (Answer, Choice, Connection)
        assert [o for o in gc.get_objects() if isinstance(o, kinds)] == list(replica._connections)

    gc.collect()
    gc.disable()
    try:
        serving(test)
    finally:
        gc.enable()


def test_a_timer_of_the_fine_loop_rings_within_a_millisecond() -> None:
    """asyncio's own rounds up to whole milliseconds: 3.3 ms would be 4."""

    async def late_s() -> float:
        loop, rang = asyncio.get_running_loop(), asyncio.Event()
        due_s = loop.time() + 0.0033
        loop.call_at(due_s, rang.set)
        await rang.wait()
        return loop.time() - due_s

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert min(runner.run(late_s()) for _ in range(50)) < 0.0003


@pytest.mark.parametrize(("flavour", "path"), [("vllm", "/reset_prefix_cache"), ("sglang", "/flush_cache")])
def test_the_cache_can_be_flushed_when_nothing_runs(flavour: str, path: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async def cached() -> int:
            made = (await client.ask("POST", "/v1/completions", {"prompt": list(range(64)), "max_tokens": 1})).json
            return int(made["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert [await cached(), await cached()] == [0, 48]
        async with connected(replica) as other:
            other.send("POST", "/v1/completions", LONG)
            await until(lambda: replica.engine.running == 1)
            refused = await client.ask("POST", path)
            assert (refused.json == {"success": False}) if flavour == "vllm" else refused.status == 400
        await until(lambda: replica.engine.running == 0)
        assert (await client.ask("POST", path)).status == 200
        assert await cached() == 0

    serving(test, flavour=flavour)


def test_pause_slow_refuse_and_resume() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async def fault(**body: Any) -> None:
            assert (await client.ask("POST", "/fault", body)).status == 200

        async def seconds() -> float:
            began = time.monotonic()
            assert (await client.ask("POST", "/v1/completions", {"prompt": [1], "max_tokens": 20})).status == 200
            return time.monotonic() - began

        normal = await seconds()
        await fault(kind="slow", factor=4)
        assert 2.5 * normal < await seconds()
        await fault(kind="resume")
        assert await seconds() < 2.5 * normal
        await fault(kind="pause", for_s=0.5)
        assert await seconds() > 0.45
        await fault(kind="refuse", status=429, for_s=0.2)
        assert (await client.ask("POST", "/v1/completions", {"prompt": [1]})).status == 429
        await asyncio.sleep(0.25)
        assert await seconds() < 2.5 * normal
        reply = await client.ask("POST", "/fault", {"kind": "flood"})
        assert (reply.status, "must be one of pause" in reply.body.decode()) == (400, True)

    serving(test, admin=True)


def test_kill_ends_streams_in_an_error_closes_the_port_and_comes_back_cold() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        prompt = {"prompt": list(range(64)), "max_tokens": 1}
        await client.ask("POST", "/v1/completions", prompt)
        async with connected(replica) as victim:
            victim.send("POST", "/v1/completions", LONG)
            await until(lambda: replica.engine.running == 1)
            assert (await client.ask("POST", "/fault", {"kind": "kill", "for_s": 0.3})).status == 200
            events = (await victim.reply()).events
            assert events[-2]["error"]["code"] == 500
            assert events[-1] == "[DONE]"
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", replica.port)
        await asyncio.sleep(0.4)
        async with connected(replica) as again:
            made = (await again.ask("POST", "/v1/completions", prompt)).json
            assert made["usage"]["prompt_tokens_details"]["cached_tokens"] == 0

    serving(test, admin=True)


def test_draining_says_so_refuses_the_new_and_lets_the_old_end() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async with connected(replica) as old:
            old.send("POST", "/v1/completions", {**LONG, "max_tokens": 40})
            await until(lambda: replica.engine.running == 1)
            draining = asyncio.ensure_future(replica.drain(5.0))
            await asyncio.sleep(0.01)
            assert (await client.ask("GET", "/health")).status == 503
            assert (await client.ask("POST", "/v1/completions", {"prompt": [1]})).status == 503
            assert (await old.reply()).events[-1] == "[DONE]"
            assert await draining
        client.send("POST", "/v1/completions", LONG)

    serving(test)


def test_draining_gives_up_in_time() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        client.send("POST", "/v1/completions", LONG)
        await until(lambda: replica.engine.running == 1)
        assert not await replica.drain(0.1)

    serving(test)


def test_several_replicas_in_one_process_have_their_own_engines() -> None:
    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with ServedReplica(profile(), loop.time()) as a, ServedReplica(profile(), loop.time()) as b:
            assert a.port != b.port
            cached = []
            for replica in (a, a, b):
                async with connected(replica) as client:
                    made = await client.ask("POST", "/v1/completions", {"prompt": list(range(64)), "max_tokens": 1})
                    cached.append(made.json["usage"]["prompt_tokens_details"]["cached_tokens"])
            assert cached == [0, 48, 0]

    asyncio.run(go())
