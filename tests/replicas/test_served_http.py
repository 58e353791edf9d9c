"""How a served replica refuses, in the words of the engine whose part it plays, and what it bears on a connection."""

import asyncio
import json
from typing import Any

import pytest

from replicas.served import ServedReplica
from replicas.served.connection import Limits
from tests.replicas.served_client import Client, connected, profile, serving

ONE: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 1}


def asked(**more: Any) -> dict[str, Any]:
    return {**ONE, **more}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{bad", "JSON decode error"),
        (b"[]", "must be a JSON object"),
        (b"\xff\xfe", "JSON decode error"),
        ({}, "must be provided and non-empty"),
        (asked(prompt=[]), "You must pass at least one prompt"),
        (asked(prompt=""), "cannot be empty"),
        (asked(prompt=[[1], []]), "must be provided and non-empty"),
        (asked(prompt=[[1], "a"]), "must be provided and non-empty"),
        (asked(prompt=[1, 1.5]), "whole numbers"),
        (asked(prompt=[1, None]), "whole numbers"),
        (asked(prompt=[1, [2]]), "whole numbers"),
        (asked(prompt=[1, 2**70]), "whole numbers"),
        (asked(prompt=[1, 128_256]), "Token id 128256 is out of vocabulary"),
        (asked(prompt=[-1, 2]), "Token id -1 is out of vocabulary"),
        (asked(max_tokens=0), "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"),
        (asked(max_tokens="9"), "max_tokens must be a whole number"),
        (asked(max_tokens=True), "max_tokens must be a whole number"),
        (asked(min_tokens=9), "min_tokens must be less than or equal to max_tokens=1, got 9."),
        (asked(n=0), "n must be at least 1, got 0."),
        (asked(n=2), "must be 1 here"),
        (asked(echo=True), "echo is not supported"),
        (asked(logprobs=3), "logprobs is not supported"),
        (asked(stop=[""]), "none may be empty"),
        (asked(stop_token_ids="a"), "stop_token_ids"),
        (asked(stream_options={"include_usage": True}), "Stream options can only be defined when `stream=True`."),
        (asked(kv_transfer_params=[]), "kv_transfer_params must be an object"),
        (asked(model=7), "model must be a text"),
    ],
)
@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_a_bad_completion_is_one_clear_400(body: object, message: str, flavour: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("POST", "/v1/completions", body)
        assert reply.status == 400
        error = reply.json["error"] if flavour == "vllm" else reply.json
        assert message in error["message"]
        assert error["code"] == 400
        assert replica.engine.running == replica.engine.waiting == 0
        assert (await client.ask("POST", "/v1/completions", ONE)).status == 200, "the connection goes on"

    serving(test, flavour=flavour)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (None, "at least one message"),
        ([], "at least one message"),
        (["hi"], "messages[0]"),
        ([{"content": "hi"}], "messages[0]"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "text parts only"),
        ([{"role": "user", "content": 7}], "messages[0].content"),
    ],
)
def test_a_bad_chat_is_one_clear_400(messages: object, message: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("POST", "/v1/chat/completions", {"messages": messages})
        assert reply.status == 400
        assert message in reply.json["error"]["message"]

    serving(test)


@pytest.mark.parametrize(("flavour", "unknown_model"), [("vllm", 404), ("sglang", 200)])
def test_an_unknown_model(flavour: str, unknown_model: int) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        assert (await client.ask("POST", "/v1/completions", asked(model="m"))).status == 200
        reply = await client.ask("POST", "/v1/completions", asked(model="x"))
        assert reply.status == unknown_model
        if flavour == "vllm":
            message = "The model `x` does not exist. Valid aliases: m."
            assert reply.json["error"] == {"message": message, "type": "NotFoundError", "param": "model", "code": 404}
        models = (await client.ask("GET", "/v1/models")).json["data"]
        assert [(m["id"], m["owned_by"], m["max_model_len"]) for m in models] == [("m", flavour, 131_072)]

    serving(test, flavour=flavour, model="m")


@pytest.mark.parametrize(
    ("flavour", "prompt", "output", "status", "message"),
    [
        ("vllm", 128, 1, 400, "maximum context length is 128 tokens. However, your prompt contains 128 input tokens"),
        ("vllm", 100, 100, 200, ""),
        ("sglang", 128, 1, 400, "The input (128 tokens) is longer than the model's context length (128 tokens)."),
        ("sglang", 100, 29, 400, "You requested a total of 129 tokens: 100 tokens from the input messages and 29"),
        ("sglang", 100, 28, 200, ""),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_the_context(flavour: str, prompt: int, output: int, status: int, message: str, stream: bool) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("POST", "/v1/completions", {"prompt": [7] * prompt, "max_tokens": output, "stream": stream})
        assert reply.status == status, "a stream, too, is refused before it begins"
        assert message in reply.body.decode()

    serving(test, profile(context_tokens=128), flavour=flavour)


@pytest.mark.parametrize("flavour", ["vllm", "sglang"])
def test_a_full_queue_refuses_a_stream_inside_itself(flavour: str) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async with connected(replica) as first, connected(replica) as second:
            first.send("POST", "/v1/completions", asked(max_tokens=400))
            second.send("POST", "/v1/completions", asked(max_tokens=400))
            await asyncio.sleep(0.05)
            reply = await client.ask("POST", "/v1/completions", ONE)
            assert reply.status == 503
            assert (reply.json["error"] if flavour == "vllm" else reply.json)["code"] == 503
            stream = await client.ask("POST", "/v1/completions", asked(stream=True))
            assert stream.status == 200
            assert stream.events[0]["error"]["code"] == 503
            assert stream.events[1:] == ["[DONE]"]

    serving(test, profile(max_queued=1, max_running=1), flavour=flavour)


def test_unknown_paths_and_methods() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        reply = await client.ask("GET", "/nope")
        assert (reply.status, reply.json) == (404, {"detail": "Not Found"})
        reply = await client.ask("GET", "/v1/completions")
        assert (reply.status, reply.json, reply.headers["allow"]) == (405, {"detail": "Method Not Allowed"}, "POST")
        assert (await client.ask("POST", "/fault", {"kind": "pause"})).status == 404, "only with admin"

    serving(test)


@pytest.mark.parametrize(("flavour", "metrics"), [("vllm", 200), ("sglang", 200)])
def test_an_api_key_is_asked_for(flavour: str, metrics: int) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        for headers in ("", "authorization: Bearer nope\r\n", "authorization: secret\r\n"):
            reply = await client.ask("POST", "/v1/completions", ONE, headers)
            assert (reply.status, reply.json) == (401, {"error": "Unauthorized"})
        assert (await client.ask("POST", "/v1/completions", ONE, "authorization: Bearer secret\r\n")).status == 200
        assert (await client.ask("GET", "/health")).status == 200
        assert (await client.ask("GET", "/metrics")).status == metrics
        assert (await client.ask("POST", "/tokenize", {"prompt": "a"})).status == (401 if flavour == "sglang" else 200)

    serving(test, flavour=flavour, api_key="secret")


def test_one_connection_serves_request_after_request_and_pipelined_ones_in_order() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        for _ in range(3):
            assert (await client.ask("POST", "/v1/completions", asked(stream=True))).events[-1] == "[DONE]"
        client.send("POST", "/v1/completions", asked(max_tokens=5))
        client.send("GET", "/version")
        client.send("POST", "/v1/completions", asked(stream=True))
        assert (await client.reply()).json["usage"]["completion_tokens"] == 5
        assert (await client.reply()).json == {"version": "0.26.0"}
        assert (await client.reply()).events[-1] == "[DONE]"

    serving(test)


@pytest.mark.parametrize("head", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nconnection: close\r\n"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_connection_that_is_not_kept_ends_with_the_answer(head: bytes, stream: bool) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        body = json.dumps(asked(stream=stream)).encode()
        client.writer.write(b"POST /v1/completions %bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        answer = await client.reader.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
        assert (b"[DONE]" in answer) == stream
        assert (b"transfer-encoding" in answer) == (stream and b"1.1" in head)

    serving(test)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nx: " + b"a" * 5000 + b"\r\n\r\n", b"431"),
        (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 5000\r\n\r\n", b"413"),
        (b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n7d0\r\n" + b"a" * 2000 + b"\r\n", b"413"),
        (b"POST /v1/completions HTTP/1.1\r\ncontent-length: -5\r\n\r\n", b"400"),
    ],
)
def test_what_is_beyond_the_limits_ends_the_connection(request_bytes: bytes, status: bytes) -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        client.writer.write(request_bytes)
        async with asyncio.timeout(2):
            answer = await client.reader.read()
        assert answer.split()[1] == status

    serving(test, limits=Limits(body_bytes=1000, header_bytes=1000))


def test_a_body_in_pieces_and_after_a_100_continue() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        body = json.dumps(ONE).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body)
        client.writer.write(head)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for i in range(len(body)):
            client.writer.write(body[i : i + 1])
            await client.writer.drain()
        assert (await client.reply()).status == 200

    serving(test)


def test_an_idle_connection_is_closed_and_half_a_request_does_not_hold_it() -> None:
    async def test(replica: ServedReplica, client: Client) -> None:
        async with connected(replica) as slow:
            slow.writer.write(b"POST /v1/compl")
            assert await slow.gone()
            assert await client.gone()

    serving(test, limits=Limits(idle_s=0.2))
