"""SGLang's own `/generate` on a served replica: bodies, answers whole and in pieces, refusals."""

from typing import Any

import pytest

from replicas.served import ServedReplica
from tests.replicas.served_client import Client, Reply, profile, serving

IDS = list(range(100, 200))


def asked(tokens: int = 5, **more: Any) -> dict[str, Any]:
    return {"input_ids": IDS, "sampling_params": {"max_new_tokens": tokens, "temperature": 0}, **more}


async def generate(client: Client, body: object) -> Reply:
    return await client.ask("POST", "/generate", body)


def test_text_and_token_ids_and_what_was_cached() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        first, second = [(await generate(client, asked(7))).json for _ in range(2)]
        assert first["text"] == second["text"]
        assert len(first["output_ids"]) == 7
        assert replica.serving.tokens.decode(first["output_ids"]) == first["text"]
        meta = second["meta_info"]
        assert (meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]) == (100, 7, 99)
        assert meta["cached_tokens_details"] == {"device": 99, "host": 0}
        assert (first["meta_info"]["cached_tokens"], first["meta_info"]["cached_tokens_details"]) == (0, None)
        assert meta["finish_reason"] == {"type": "length", "length": 7}
        assert meta["first_token_latency"] < meta["e2e_latency"] < 1
        assert meta["queue_time"] >= 0
        turn = [*IDS, *first["output_ids"], 7, 8]
        assert (await generate(client, asked(input_ids=turn))).json["meta_info"]["cached_tokens"] == 106

    serving(test, profile(block_tokens=1, kv_blocks=200_000, scheduler="sglang"), flavour="sglang")


def test_each_event_of_a_stream_repeats_what_has_come() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        whole = (await generate(client, asked(6))).json
        reply = await generate(client, asked(6, stream=True, rid="mine"))
        *events, done = reply.events
        assert done == "[DONE]"
        assert reply.headers["content-type"].startswith("text/event-stream")
        counts = [e["meta_info"]["completion_tokens"] for e in events]
        assert counts == sorted(set(counts))
        assert [e["output_ids"] for e in events] == [whole["output_ids"][:n] for n in counts]
        assert all(whole["text"].startswith(e["text"]) for e in events)
        assert events[-1]["text"] == whole["text"]
        assert [e["meta_info"]["finish_reason"] is None for e in events] == [True] * (len(events) - 1) + [False]
        assert len({e["meta_info"]["id"] for e in events}) == 1
        assert "e2e_latency" in events[-1]["meta_info"]

    serving(test, flavour="sglang")


@pytest.mark.parametrize("stream", [False, True])
def test_a_list_of_prompts_is_answered_by_a_list(stream: bool) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        body = {"text": ["one two", "three"], "sampling_params": [{"max_new_tokens": 3}] * 2, "stream": stream}
        reply = await generate(client, body)
        if stream:
            last = {e["index"]: e for e in reply.events[:-1]}
            answers = [last[0], last[1]]
        else:
            answers = reply.json
        assert [len(a["output_ids"]) for a in answers] == [3, 3]
        assert answers[0]["meta_info"]["id"] != answers[1]["meta_info"]["id"]

    serving(test, flavour="sglang")


def test_defaults_and_stops() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        made = (await generate(client, {"text": "hello"})).json
        assert made["meta_info"]["finish_reason"] == {"type": "length", "length": 128}
        stop = made["output_ids"][4]
        made = (await generate(client, {"text": "hello", "sampling_params": {"stop_token_ids": [stop]}})).json
        assert made["meta_info"]["finish_reason"] == {"type": "stop", "matched": stop}
        assert made["meta_info"]["completion_tokens"] == 5

    serving(test, flavour="sglang")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"sampling_params": {}}, "Either text, input_ids or input_embeds should be provided."),
        (asked(input_ids=[]), "input_ids cannot be empty."),
        (asked(input_ids=[[1], []]), "input_ids cannot be empty."),
        (asked(input_ids="abc"), "input_ids must be a list"),
        (asked(input_ids=[1, "a"]), "whole numbers"),
        (asked(input_ids=[1, 10**7]), "out of vocabulary"),
        (asked(0), "max_new_tokens must be at least 1 here, got 0"),
        (asked(-1), "max_new_tokens must be at least 0, got -1"),
        (asked(sampling_params={"foo": 1}), "unknown field `foo`"),
        (asked(sampling_params="x"), "sampling_params: an object"),
        (asked(sampling_params=[{"max_new_tokens": 1}, {"max_new_tokens": 2}]), "must be the same"),
        (asked(sampling_params={"n": 2}), "n must be 1 here"),
        (asked(return_logprob=True), "return_logprob is not supported"),
        (asked(200), "You requested a total of 300 tokens"),
        (asked(input_ids=[1] * 128), "The input (128 tokens) is longer than the model's context length (128 tokens)."),
    ],
)
def test_a_bad_body_is_one_clear_400(body: dict[str, Any], message: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await generate(client, body)
        assert reply.status == 400
        assert message in reply.json["error"]["message"]
        assert (await generate(client, asked())).status == 200, "the connection goes on"

    serving(test, profile(context_tokens=128), flavour="sglang")


def test_a_full_queue_and_another_engine() -> None:
    async def refused(replica: ServedReplica, client: Client) -> None:
        reply = await generate(client, asked())
        assert (reply.status, reply.json["message"]) == (503, "The request queue is full.")
        events = (await generate(client, asked(stream=True))).events
        assert (events[0]["error"]["code"], events[1:]) == (503, ["[DONE]"])

    async def absent(replica: ServedReplica, client: Client) -> None:
        assert (await generate(client, asked())).status == 404

    serving(refused, profile(max_queued=0), flavour="sglang")
    serving(absent, flavour="vllm")
