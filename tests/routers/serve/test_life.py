"""The router's life: draining, replicas that come and go, what it observes, and what it never shows."""

import asyncio
import logging

import pytest

from routers.serve.settings import Health
from tests.routers.serve.bench import ASK, PATH, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, OK, Exchange, FakeReplica, event

VLLM = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_waiting{engine="0",model_name="m"} 7.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 9.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
"""


class Held:
    """Answers with a stream whose end waits for a word."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD + event({"n": 1}))
        await self.go_on.wait()
        await exchange.send(event(b"[DONE]") + LAST_CHUNK)


def test_draining_lets_streams_end_and_takes_no_more() -> None:
    async def test(bench: Bench) -> None:
        held = bench.replicas[0].script
        assert isinstance(held, Held)
        busy, idle = await bench.client(), await bench.client()
        assert (await idle.ask(method="GET", path="/health")).status == 200
        busy.send("POST", PATH, {**ASK, "stream": True})
        await busy.read_until(b'{"n": 1}')
        draining = asyncio.ensure_future(bench.server.drain(5))
        assert await idle.gone()
        with pytest.raises(ConnectionRefusedError):
            await bench.client()
        assert (await bench.admin("GET", "/health")).status == 503
        assert not draining.done()
        held.go_on.set()
        assert (await busy.read_until(LAST_CHUNK)).endswith(event(b"[DONE]") + LAST_CHUNK)
        assert await busy.gone()
        assert await draining

    run(test, FakeReplica(Held()))


def test_draining_has_an_end() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, {**ASK, "stream": True})
        await client.read_until(b'{"n": 1}')
        assert not await bench.server.drain(0.1)
        await bench.server.__aexit__(None, None, None)
        assert await client.gone()

    run(test, FakeReplica(Held()))


def test_replicas_come_and_go_while_requests_run() -> None:
    async def test(bench: Bench) -> None:
        (first,) = bench.replicas
        second = await bench.stack.enter_async_context(FakeReplica())
        held, usual = Held(), first.script
        first.script = held
        client = await bench.client()
        client.send("POST", PATH, {**ASK, "stream": True})
        await client.read_until(b'{"n": 1}')

        added = await bench.admin("POST", "/replicas", {"url": second.url})
        assert (added.status, added.json) == (201, {"id": 1})
        assert (await bench.admin("POST", "/replicas", {"url": second.url})).status == 409
        await until(lambda: bench.proxy.router.views[1].healthy)

        assert (await bench.admin("DELETE", "/replicas/0")).status == 202
        (left,) = (await bench.admin("GET", "/replicas")).json
        assert (left["id"], left["url"], left["role"], left["healthy"]) == (1, second.url, "both", True)
        for _ in range(3):
            assert (await bench.ask()).json == OK
        assert (len(first.asked), len(second.asked)) == (1, 3)

        held.go_on.set()  # what ran on the removed replica ends well
        assert (await client.read_until(LAST_CHUNK)).endswith(event(b"[DONE]") + LAST_CHUNK)
        await until(lambda: 0 not in bench.proxy.links, 4)
        assert first.url not in (await bench.ask(method="GET", path="/metrics")).body.decode()

        assert (await bench.admin("DELETE", "/replicas/1")).status == 202
        assert (await bench.ask()).status == 503
        assert (await bench.admin("POST", "/replicas", {"url": first.url})).json == {"id": 2}
        first.script = usual
        await until(lambda: bench.proxy.router.views[0].healthy)
        assert (await bench.ask()).json == OK

    run(test, FakeReplica())


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/replicas", {"url": "ftp://x"}, 400),
        ("POST", "/replicas", {"url": "http://user:secret@x:1"}, 400),
        ("POST", "/replicas", {"url": "http://x:99999"}, 400),
        ("POST", "/replicas", {"url": "http://x:1", "role": "chief"}, 400),
        ("POST", "/replicas", {"url": "http://x:1", "role": "prefill"}, 400),
        ("POST", "/replicas", {"url": "http://x:1", "weight": 2}, 400),
        ("POST", "/replicas", [1], 400),
        ("POST", "/replicas", b"{", 400),
        ("DELETE", "/replicas/7", None, 404),
        ("DELETE", "/replicas/x", None, 404),
        ("GET", "/", None, 404),
    ],
)
def test_bad_words_of_an_operator_change_nothing(method: str, path: str, body: object, status: int) -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.admin(method, path, body)
        assert reply.status == status, reply.body
        assert reply.error
        assert len(bench.proxy.router.views) == 1

    run(test, FakeReplica())


def test_the_operators_paths_are_not_on_the_clients_port() -> None:
    async def test(bench: Bench) -> None:
        assert (await bench.ask({"url": "http://x:1"}, path="/replicas")).status == 404
        assert (await bench.ask(path="/replicas/0", method="DELETE")).status == 404
        assert len(bench.proxy.router.views) == 1

    run(test, FakeReplica())


def test_gauges_are_read_as_often_as_asked() -> None:
    async def test(bench: Bench) -> None:
        (view,) = bench.proxy.router.views
        await until(lambda: view.waiting == 7)
        assert (view.running, view.kv_used) == (3, 0.25)
        seen_s = view.observed_s
        await until(lambda: view.observed_s > seen_s)
        counted = await bench.metrics()
        assert counted[f'stampede_router_replica_waiting{{replica="{bench.replicas[0].url}",role="both"}}'] == 7
        bench.replicas[0].gauges = "nothing of the kind 1\n"
        watch = bench.proxy.watches[0]
        await until(lambda: watch.blind > 0)
        assert view.waiting == 7, "no news is not good news"

    run(test, FakeReplica(gauges=VLLM), observe_s=0.02)


def test_a_probing_policy_gets_its_answers() -> None:
    async def test(bench: Bench) -> None:
        for _ in range(12):
            assert (await bench.ask()).json == OK
            await asyncio.sleep(0.01)
        counted = await bench.metrics()
        assert any("cold: least latency" in name for name in counted)

    run(test, FakeReplica(gauges=VLLM), FakeReplica(gauges=VLLM), policy=("prequal", {}))


def test_metrics_tell_what_happened_and_to_whom() -> None:
    async def test(bench: Bench) -> None:
        for _ in range(4):
            await bench.ask()
        counted, url = await bench.metrics(), bench.replicas[0].url
        assert counted['stampede_router_requests_total{outcome="ok",status="200"}'] == 4
        assert counted[f'stampede_router_tries_total{{replica="{url}",outcome="ok",status="200"}}'] == 2
        assert counted[f'stampede_router_ttft_seconds_count{{replica="{url}"}}'] == 2
        assert counted[f'stampede_router_ttft_seconds_bucket{{replica="{url}",le="+Inf"}}'] == 2
        assert counted["stampede_router_e2e_seconds_count"] == 4
        assert counted[f'stampede_router_replica_healthy{{replica="{url}",role="both"}}'] == 1
        assert counted[f'stampede_router_replica_health_checks_total{{replica="{url}",result="ok"}}'] >= 1
        assert counted["stampede_router_open_requests"] == 0

    run(test, FakeReplica(), FakeReplica())


def test_keys_and_prompts_are_passed_on_and_shown_nowhere(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    key, prompt = "sk-very-secret", "a private thought"

    async def refuse(exchange: Exchange) -> None:
        assert exchange.asked.header("authorization") == f"Bearer {key}"
        exchange.writer.transport.abort()

    async def test(bench: Bench) -> None:
        caplog.set_level(logging.DEBUG)
        headers = f"authorization: Bearer {key}\r\nx-api-key: {key}\r\n"
        shown = [(await bench.ask({"prompt": prompt}, headers=headers)).raw]
        shown.append((await bench.ask(b"{" + key.encode(), headers=headers)).raw)
        shown.append((await bench.ask(headers=headers + "bad header\r\n")).raw)
        shown.append((await bench.ask(path="/metrics", method="GET")).raw)
        shown.append((await bench.admin("GET", "/replicas")).raw)
        shown += [repr(r).encode() for r in (bench.proxy, bench.proxy.router, bench.proxy.connections)]
        for text in (*(raw.decode() for raw in shown), caplog.text, *capsys.readouterr()):
            assert key not in text
            assert prompt not in text
        assert bench.replicas[0].asked

    run(test, FakeReplica(refuse))


def test_nothing_is_left_open_after_many_requests_of_all_kinds() -> None:
    async def mixed(exchange: Exchange) -> None:
        how = exchange.asked.json["how"] % 4
        if how == 0:
            await exchange.send(EVENTS_HEAD + event({"n": 1}) + event(b"[DONE]") + LAST_CHUNK)
        elif how == 1:
            exchange.writer.transport.abort()
        elif how == 2:
            await exchange.send(b"nonsense\r\n\r\n")
        else:
            await exchange.until_gone()

    async def test(bench: Bench) -> None:
        for n in range(60):
            client = await bench.client()
            client.send("POST", PATH, {**ASK, "how": n})
            if n % 4 == 3:
                await until(lambda: bool(bench.proxy.relays))
            else:
                await client.reply()
            client.close()
        await until(lambda: not bench.proxy.connections)
        await until(lambda: all(link.open_connections <= link.idle_connections for link in bench.proxy.links.values()))
        assert bench.proxy.wheel.size == 0

    run(test, FakeReplica(mixed), FakeReplica(mixed), guards=[("retry", {"backoff_s": 0.0})], health=Health(every_s=30.0))
