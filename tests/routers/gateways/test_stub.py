"""The stub replica and its caller: what they say of each other must be so, since faults are read off them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from routers.gateways.ask import LOST, Caller, ask_once
from routers.gateways.faults.prompts import completion
from routers.gateways.stub import Behaviour, StubReplica

PATH = "/v1/completions"


def against(test: Callable[[StubReplica], Awaitable[None]], **behaviour: Any) -> None:
    async def go() -> None:
        async with asyncio.timeout(20), StubReplica(Behaviour(**behaviour)) as stub:
            await test(stub)

    asyncio.run(go())


def test_a_stream_has_its_chunks_usage_and_end() -> None:
    async def test(stub: StubReplica) -> None:
        answer = await ask_once(stub.url, PATH, completion(1))
        *events, last = [line[6:] for line in answer.body.decode().split("\n") if line.startswith("data: ")]
        assert last == "[DONE]"
        assert [len(json.loads(e)["choices"]) for e in events] == [1, 1, 1, 0]
        assert json.loads(events[-1])["usage"]["completion_tokens"] == 3
        assert stub.asked[0].done
        assert stub.in_flight == 0

    against(test, chunks=3)


def test_times_are_as_told() -> None:
    async def test(stub: StubReplica) -> None:
        answer = await ask_once(stub.url, PATH, completion(1))
        assert answer.first_s is not None
        assert 0.1 <= answer.first_s < 0.7
        assert 0.15 <= answer.max_gap_s < 0.7
        assert 0.4 <= answer.ended_s < 2.0

    against(test, first_s=0.1, gap_s=0.15, chunks=3, headers_first=True)


def test_a_refusal_and_a_whole_answer_keep_the_connection() -> None:
    async def test(stub: StubReplica) -> None:
        async with Caller(stub.url) as caller:
            stub.behaviour = Behaviour(status=503)
            assert (await caller.ask(PATH, completion(1))).status == 503
            stub.behaviour = Behaviour()
            whole = await caller.ask(PATH, completion(1, stream=False))
            assert json.loads(whole.body)["usage"]["completion_tokens"] == 4
        assert len(stub.asked) == 2

    against(test)


def test_a_caller_that_leaves_is_seen_and_not_counted_as_done() -> None:
    async def test(stub: StubReplica) -> None:
        assert (await ask_once_for(stub, 0.2)).status == LOST
        while stub.in_flight:
            await asyncio.sleep(0.01)
        assert (stub.asked[0].hung_up, stub.asked[0].done) == (True, False)

    async def ask_once_for(stub: StubReplica, timeout_s: float) -> Any:
        async with Caller(stub.url) as caller:
            return await caller.ask(PATH, completion(1), timeout_s=timeout_s)

    against(test, first_s=60.0)


def test_what_is_not_there_is_lost_not_raised() -> None:
    async def go() -> None:
        async with StubReplica() as stub:
            url = stub.url
        assert (await ask_once(url, PATH, completion(1))).status == LOST

    asyncio.run(go())


def test_a_stub_knows_its_load_only_if_told_so() -> None:
    async def test(stub: StubReplica) -> None:
        assert (await ask_once(stub.url, "/get_load", {})).status == 404
        stub.behaviour = Behaviour(knows_load=True, first_s=5.0)
        asking = asyncio.create_task(ask_once(stub.url, PATH, completion(1)))
        while not stub.in_flight:
            await asyncio.sleep(0.01)
        load = json.loads((await ask_once(stub.url, "/get_load", {})).body)
        assert load[0]["num_reqs"] == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    against(test)


def test_prompts_are_their_keys_alone() -> None:
    assert completion(1) == completion(1)
    assert completion(1)["prompt"].split()[:1] != completion(2)["prompt"].split()[:1]
    assert len(completion(1, as_text=False)["prompt"]) == 200


def test_quick_acknowledgement_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("routers.gateways.ask.sys.platform", "darwin")
    with pytest.raises(ValueError, match="only Linux has TCP_QUICKACK"):
        Caller("http://h:1", quick_ack=True)
