"""What comes back from a served replica: text, tokens, usage, as a stream and whole, and which of the prompt was cached."""

from typing import Any

import pytest

from replicas.served import ServedReplica
from tests.replicas.served_client import Client, profile, serving

PROMPT = list(range(100, 180))


def completion(prompt: object = PROMPT, tokens: int | None = 8, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": tokens, "return_token_ids": True, **more}


def text_of(events: list[Any]) -> str:
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for e in events[:-1] for c in e["choices"])


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_a_stream_and_a_whole_answer_say_the_same(flavour: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        whole = (await client.ask("POST", "/v1/completions", completion())).json
        reply = await client.ask("POST", "/v1/completions", completion(stream=True, stream_options={"include_usage": True}))
        events = reply.events
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events[-1] == "[DONE]"
        *chunks, usage, _ = events
        choice = whole["choices"][0]
        assert text_of(events) == choice["text"]
        assert [i for e in chunks for i in e["choices"][0]["token_ids"]] == choice["token_ids"]
        reasons = [e["choices"][0]["finish_reason"] for e in chunks]
        assert reasons == [None] * (len(chunks) - 1) + ["length"]  # a busy machine may send two tokens in one chunk
        assert all("usage" not in e for e in chunks)
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"] == len(choice["token_ids"]) == 8
        assert usage["usage"]["prompt_tokens"] == 80
        assert usage["usage"]["total_tokens"] == 88

    serving(test, flavour=flavour)


def test_a_token_is_a_chunk_at_the_time_the_engine_makes_it() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("POST", "/v1/completions", completion(tokens=20, stream=True))
        assert len(reply.events) - 1 <= 20
        assert replica.meter.lag_s.count == len(reply.events) - 1
        assert replica.meter.gap_s.count == 19
        step_s = replica.profile.step.base_s
        assert step_s <= replica.meter.gap_s.sum / 19 < 1.2 * step_s

    serving(test)


def test_continuous_usage_counts_with_every_chunk() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        options = {"include_usage": True, "continuous_usage_stats": True}
        events = (await client.ask("POST", "/v1/completions", completion(tokens=4, stream=True, stream_options=options))).events
        counted = [e["usage"]["completion_tokens"] for e in events[:-1]]
        assert counted == sorted(counted)
        assert counted[-1] == 4
        assert all(e["usage"]["prompt_tokens"] == 80 for e in events[:-1])

    serving(test)


def test_the_same_prompt_has_the_same_answer_everywhere_and_another_has_another() -> None:
    texts = []

    async def test(replica: ServedReplica, client: Client) -> None:
        texts.append((await client.ask("POST", "/v1/completions", completion(tokens=12))).json["choices"][0]["text"])
        other = (await client.ask("POST", "/v1/completions", completion([1, 2, 3], 12))).json["choices"][0]["text"]
        longer = (await client.ask("POST", "/v1/completions", completion(tokens=20))).json["choices"][0]["text"]
        assert other != texts[-1]
        assert longer.startswith(texts[-1])

    serving(test)
    serving(test)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("prompts", [[PROMPT, [5, 6, 7]], ["one two", "three"]])
@pytest.mark.parametrize("stream", [False, True])
def test_several_prompts_are_several_choices(prompts: list[Any], stream: bool) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        alone = [(await client.ask("POST", "/v1/completions", completion(p))).json["choices"][0]["text"] for p in prompts]
        reply = await client.ask("POST", "/v1/completions", completion(prompts, stream=stream))
        parts = [c for e in reply.events[:-1] for c in e["choices"]] if stream else reply.json["choices"]
        for i, text in enumerate(alone):
            assert "".join(c["text"] for c in parts if c["index"] == i) == text

    serving(test)


@pytest.mark.parametrize("page", [1, 16])
def test_cached_tokens_are_those_of_a_real_engine(page: int) -> None:
    """calibration README: cached = floor((previous input + previous output - 1) / block) * block; page 1: one less than all."""

    async def test(replica: ServedReplica, client: Client) -> None:
        async def cached(prompt: list[int], tokens: int = 8) -> tuple[int, list[int]]:
            made = (await client.ask("POST", "/v1/completions", completion(prompt, tokens))).json
            return made["usage"]["prompt_tokens_details"]["cached_tokens"], made["choices"][0]["token_ids"]

        first, reply = await cached(PROMPT, 40)
        assert first == 0
        assert (await cached(PROMPT))[0] == (80 - 1) // page * page, "the last token is always computed"
        turn = [*PROMPT, *reply, *range(300, 340)]
        assert (await cached(turn))[0] == (80 + 40 - 1) // page * page
        assert (await cached([*PROMPT[:50], *range(500, 550)]))[0] == 50 // page * page
        assert (await cached([*PROMPT, *reply[:23], 9, 9, 9]))[0] == 103 // page * page, "a part of a reply, too"
        assert (await cached([1, *PROMPT[1:]]))[0] == 0

    serving(test, profile(block_tokens=page, kv_blocks=462_944 // page, context_tokens=100_000))


def test_a_chat_hits_the_cache_of_its_own_earlier_turn_through_text() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        system = {"role": "system", "content": "You are brief. " * 10}
        messages: list[dict[str, Any]] = [system, {"role": "user", "content": "Tell me a story"}]
        first = (await client.ask("POST", "/v1/chat/completions", {"messages": messages, "max_tokens": 50})).json
        said = first["choices"][0]["message"]
        assert said["role"] == "assistant"
        messages += [said, {"role": "user", "content": [{"type": "text", "text": "and then?"}]}]
        second = (await client.ask("POST", "/v1/chat/completions", {"messages": messages, "max_completion_tokens": 5})).json
        before = first["usage"]["prompt_tokens"] + 50
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == (before - 1) // 16 * 16
        assert second["usage"]["completion_tokens"] == 5

    serving(test)


def test_a_chat_stream_says_who_speaks_first() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        whole = (await client.ask("POST", "/v1/chat/completions", asked)).json
        events = (await client.ask("POST", "/v1/chat/completions", {**asked, "stream": True})).events
        assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert {e["object"] for e in events[:-1]} == {"chat.completion.chunk"}
        assert text_of(events) == whole["choices"][0]["message"]["content"]
        assert events[-2]["choices"][0]["finish_reason"] == "length"

    serving(test)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_stop_texts_and_stop_tokens_end_a_reply(stream: bool, keep: bool) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async def ask(**more: Any) -> tuple[str, Any, int]:
            asked = completion(tokens=20, stream=stream, include_stop_str_in_output=keep, **more)
            if stream:
                asked["stream_options"] = {"include_usage": True}
            reply = await client.ask("POST", "/v1/completions", asked)
            if not stream:
                made = reply.json
                return made["choices"][0]["text"], made["choices"][0], made["usage"]["completion_tokens"]
            events = reply.events
            return text_of(events), events[-3]["choices"][0], events[-2]["usage"]["completion_tokens"]

        full = (await client.ask("POST", "/v1/completions", completion(tokens=20))).json["choices"][0]
        words = full["text"].split()
        text, choice, tokens = await ask(stop=[words[9], words[4]])
        assert tokens == 5
        assert text == " " + " ".join(words[: 5 if keep else 4]) + ("" if keep else " ")
        assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", words[4])
        _, choice, tokens = await ask(stop_token_ids=[full["token_ids"][7]])
        assert (tokens, choice["finish_reason"], choice["stop_reason"]) == (8, "stop", full["token_ids"][7])
        _, choice, tokens = await ask(stop=["no such text"])
        assert (tokens, choice["finish_reason"], choice["stop_reason"]) == (20, "length", None)
        _, choice, tokens = await ask(stop=[words[4]], min_tokens=10)
        assert tokens >= 10

    serving(test)


def test_without_max_tokens_a_chat_fills_the_context_and_a_completion_has_16() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        made = (await client.ask("POST", "/v1/completions", completion(tokens=None))).json
        assert made["usage"]["completion_tokens"] == 16
        chat = (await client.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]})).json
        assert chat["usage"]["total_tokens"] == 128
        clamped = (await client.ask("POST", "/v1/completions", completion(tokens=1000))).json
        assert clamped["usage"]["total_tokens"] == 128, "clamped at the context, as vLLM does"

    serving(test, profile(context_tokens=128))


@pytest.mark.parametrize(("flavour", "answer"), [("vllm", "prompt"), ("sglang", "text")])
def test_tokens_of_a_reply_survive_the_way_through_text(flavour: str, answer: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        made = (await client.ask("POST", "/v1/completions", completion(tokens=100))).json["choices"][0]
        tokens = (await client.ask("POST", "/tokenize", {"prompt": made["text"]})).json
        assert tokens["tokens"] == made["token_ids"]
        assert tokens["count"] == 100
        assert (await client.ask("POST", "/detokenize", {"tokens": made["token_ids"]})).json == {answer: made["text"]}

    serving(test, flavour=flavour)
