"""What lasts too long, what guards refuse, hold or give up, and what a fault of a rule does: one clear answer each."""

import asyncio
import logging

import pytest

from routers.guards import GUARDS
from routers.guards.timeout import TimeoutGuard
from routers.policies import POLICIES
from routers.policies.round_robin import RoundRobin
from routers.serve.proxy import Named
from routers.serve.settings import Timeouts
from tests.routers.serve.bench import ASK, PATH, Bench, run, until
from tests.routers.serve.fake_replica import EVENTS_HEAD, LAST_CHUNK, OK, Exchange, FakeReplica, Script, event, whole

RETRY: Named = ("retry", {"exclude": "tried", "backoff_s": 0.01})


def sending(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)

    return script


async def silent(exchange: Exchange) -> None:
    await exchange.until_gone()


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [(Timeouts(first_byte_s=0.1), "timeout: no answer in time"), (Timeouts(total_s=0.1), "timeout: no answer in time")],
    ids=["first byte", "total"],
)
def test_a_silent_replica_is_504_and_hung_up_on(timeouts: Timeouts, error: str) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD)
        await exchange.until_gone()
        gone.set()

    async def test(bench: Bench) -> None:
        reply = await bench.ask()
        assert (reply.status, reply.error) == (504, error)
        await asyncio.wait_for(gone.wait(), 2)

    run(test, FakeReplica(script), timeouts=timeouts)


def test_a_timeout_may_be_retried_elsewhere() -> None:
    async def test(bench: Bench) -> None:
        for _ in range(2):
            assert (await bench.ask()).json == OK

    run(test, FakeReplica(silent), FakeReplica(), guards=[RETRY], timeouts=Timeouts(first_byte_s=0.1))


def test_a_stream_that_falls_silent_is_cut_off() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD + event({"n": 1}))
        await exchange.until_gone()

    async def test(bench: Bench) -> None:
        reply = await bench.ask({**ASK, "stream": True})
        assert (reply.status, reply.whole) == (200, False)

    run(test, FakeReplica(script), timeouts=Timeouts(idle_s=0.1))


def test_an_error_answer_that_falls_silent_is_cut_off() -> None:
    async def test(bench: Bench) -> None:
        reply = await bench.ask()
        assert (reply.status, reply.whole) == (500, False)

    head = b"HTTP/1.1 500 Oops\r\ncontent-length: 10\r\n\r\nabc"
    run(test, FakeReplica(sending(head)), timeouts=Timeouts(idle_s=0.1, first_byte_s=0.1))


def test_a_slow_stream_is_no_silent_one() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD)
        for n in range(6):
            await exchange.send(event({"n": n}))
            await asyncio.sleep(0.1)
        await exchange.send(event(b"[DONE]") + LAST_CHUNK)

    async def test(bench: Bench) -> None:
        reply = await bench.ask({**ASK, "stream": True})
        assert (reply.whole, reply.body.count(b"data:")) == (True, 7)

    run(test, FakeReplica(script), timeouts=Timeouts(idle_s=0.3))


@pytest.mark.parametrize("orphan", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_a_guard_may_give_a_try_up(orphan: bool, begun: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aborted, or left to work for nobody; the client gets the next try's answer, or a visible cut."""
    monkeypatch.setitem(GUARDS, "timeout", TimeoutGuard)
    gone, ended = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.send(EVENTS_HEAD + (event({"n": 1}) if begun else b""))
        try:
            async with asyncio.timeout(0.5):
                await exchange.until_gone()
            gone.set()
        except TimeoutError:
            await exchange.send(event(b"late" * 100_000) + event(b"[DONE]") + LAST_CHUNK)
            ended.set()

    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask({**ASK, "stream": True})
        if begun:
            assert (reply.status, reply.whole) == (200, False)
        else:
            assert reply.json == OK
        await asyncio.wait_for((ended if orphan else gone).wait(), 2)
        assert (await bench.ask()).json == OK
        counted = await bench.metrics()
        assert counted[f'stampede_router_tries_total{{replica="{bench.replicas[0].url}",outcome="given up",status="0"}}'] == (
            1 if begun else 2
        )

    guards: list[Named] = [RETRY, ("timeout", {"first_token_s": 0.1, "total_s": 0.2, "orphan": orphan})]
    run(test, FakeReplica(slow), FakeReplica(), guards=guards)


def test_a_held_request_waits_no_longer_than_it_may() -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        await exchange.send(whole(b"{}"))

    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, ASK)
        await until(lambda: bench.in_flight == [1])
        held = await bench.ask()
        assert (held.status, held.json["error"]["code"]) == (408, 408)
        release.set()
        assert (await client.reply()).status == 200

    run(test, FakeReplica(script), guards=[("queue", {"cap": 1, "deadline_s": 0.1})])


def test_a_guards_refusal_is_an_openai_error_and_counted() -> None:
    async def test(bench: Bench) -> None:
        client = await bench.client()
        client.send("POST", PATH, ASK)
        await until(lambda: bench.in_flight == [1])
        refused = await bench.ask()
        assert (refused.status, refused.json["error"]["type"]) == (429, "rate_limit_error")
        assert (await bench.metrics())['stampede_router_refusals_total{guard="0_queue"}'] == 1

    guard: Named = ("queue", {"cap": 1, "max_length": 0, "full_status": 429})
    run(test, FakeReplica(silent), guards=[guard])


def test_a_fault_of_the_policy_is_500_and_the_router_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        def fail(*_: object) -> None:
            raise KeyError("oops")

        log = logging.getLogger("stampede.router")
        monkeypatch.setattr(log, "disabled", True)
        with monkeypatch.context() as patch:
            patch.setattr(bench.proxy.router.policy, "choose", fail)
            client = await bench.client()
            reply = await client.ask()
            assert (reply.status, reply.error) == (500, "the router failed: KeyError")
        bench.proxy.router._flights.clear()  # what the fault left behind
        assert (await client.ask()).json == OK

    run(test, FakeReplica())


@pytest.mark.parametrize("hook", ["on_end", "on_first_token"])
@pytest.mark.parametrize("answer", [whole(b"{}"), whole(b"busy", "503 Busy"), b"nonsense\r\n\r\n"], ids=["ok", "503", "broken"])
def test_a_fault_at_a_tries_end_leaves_no_client_waiting(hook: str, answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty(RoundRobin):
        def on_end(self, *_: object) -> None:
            if hook == "on_end":
                raise KeyError("oops")

        def on_first_token(self, *_: object) -> None:
            if hook == "on_first_token":
                raise KeyError("oops")

    async def test(bench: Bench) -> None:
        client = await bench.client()
        reply = await client.ask()
        status = int(answer.split()[1]) if answer.startswith(b"HTTP") else 500 if hook == "on_end" else 502
        assert (reply.status, reply.whole) == (status, True)
        bench.replicas[0].script = sending(whole(b"{}"))
        assert (await client.ask()).body == b"{}"
        bench.proxy.router._flights.clear()  # what the fault left behind

    monkeypatch.setitem(POLICIES, "faulty", Faulty)
    monkeypatch.setattr(logging.getLogger("stampede.router"), "disabled", True)
    run(test, FakeReplica(sending(answer)), policy=("faulty", {}))
