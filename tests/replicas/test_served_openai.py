"""The official `openai` Python client against a served replica: stream and not, errors, aborts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from replicas.served import ServedReplica, Serving
from tests.replicas.served_client import profile, until

openai = pytest.importorskip("openai")

Test = Callable[[ServedReplica, Any], Awaitable[None]]
MESSAGES = [{"role": "user", "content": "Tell me a story"}]


def talking(test: Test, flavour: str = "vllm", **changes: Any) -> None:
    async def go() -> None:
        async with asyncio.timeout(30):
            serving = Serving(flavour=flavour, model="m", api_key="secret")
            replica = ServedReplica(profile(**changes), asyncio.get_running_loop().time(), serving)
            async with replica, openai.AsyncOpenAI(base_url=f"{replica.url}/v1", api_key="secret", max_retries=0) as client:
                await test(replica, client)

    asyncio.run(go())


FLAVOURS = pytest.mark.parametrize("flavour", ["vllm", "sglang"])


@FLAVOURS
def test_chats(flavour: str) -> None:
    async def test(replica: ServedReplica, client: Any) -> None:
        whole = await client.chat.completions.create(model="m", messages=MESSAGES, max_completion_tokens=10)
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage.completion_tokens == 10
        assert whole.usage.prompt_tokens_details.cached_tokens == 0
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=10, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        said = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
        assert said == whole.choices[0].message.content
        assert chunks[-1].usage.completion_tokens == 10
        assert chunks[-2].choices[0].finish_reason == "length"

    talking(test, flavour)


@FLAVOURS
@pytest.mark.parametrize("prompt", ["Once upon a time", [1, 2, 3], ["a", "b"], [[1, 2], [3]]])
def test_completions(flavour: str, prompt: Any) -> None:
    async def test(replica: ServedReplica, client: Any) -> None:
        whole = await client.completions.create(model="m", prompt=prompt, max_tokens=6, extra_body={"ignore_eos": True})
        texts = [""] * len(whole.choices)
        async for chunk in await client.completions.create(model="m", prompt=prompt, max_tokens=6, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == [c.text for c in whole.choices]
        assert whole.usage.completion_tokens == 6 * len(texts)

    talking(test, flavour)


def test_models_and_errors() -> None:
    async def test(replica: ServedReplica, client: Any) -> None:
        assert [m.id async for m in client.models.list()] == ["m"]
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            await client.completions.create(model="x", prompt="a")
        with pytest.raises(openai.BadRequestError, match="n must be at least 1"):
            await client.completions.create(model="m", prompt="a", n=0)
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.completions.create(model="m", prompt=[1] * 200, max_tokens=1)
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="wrong").models.list()

    talking(test, context_tokens=128)


@FLAVOURS
@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue(flavour: str, stream: bool) -> None:
    """A refused stream is an error inside the stream, which the client raises where it reads it."""

    async def test(replica: ServedReplica, client: Any) -> None:
        async def whole_answer() -> None:
            answer = await client.completions.create(model="m", prompt=[1], max_tokens=5, stream=stream)
            async for chunk in answer:
                raise AssertionError(f"a refused stream has no chunk, but {chunk}")

        running = asyncio.ensure_future(client.completions.create(model="m", prompt=[1], max_tokens=1000))
        await until(lambda: replica.engine.running == 1)
        with pytest.raises(openai.APIError):
            await whole_answer()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    talking(test, flavour, max_running=1, max_queued=1)


@pytest.mark.parametrize("stream", [False, True])
def test_an_abort_frees_the_replica(stream: bool) -> None:
    async def test(replica: ServedReplica, client: Any) -> None:
        asked = client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=100_000, stream=stream)
        if stream:
            answer = await asked
            assert (await anext(aiter(answer))).choices
            await answer.close()
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asked, 0.3)
        await until(lambda: replica.engine.running == 0)
        assert replica.clock.open == 0

    talking(test)


def test_a_client_with_a_timeout_gives_up() -> None:
    async def test(replica: ServedReplica, client: Any) -> None:
        with pytest.raises(openai.APITimeoutError):
            await client.with_options(timeout=0.3).completions.create(model="m", prompt=[1], max_tokens=100_000)
        await until(lambda: replica.engine.running == 0)

    talking(test)
