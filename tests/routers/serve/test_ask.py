"""What the router reads out of a request: the prompt's keys, the limit, the session, the tenant."""

import json
import time
from typing import Any

import pytest

from routers.serve.ask import CHUNK_TOKENS, SHORT_CHUNKS, Ask, read_ask, text_prompt, token_prompt
from routers.serve.request_head import RequestHead, parse_request_head
from routers.tries import EXPECTED_OUTPUT_TOKENS

CHUNK = 256  # bytes


def head(**headers: str) -> RequestHead:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return parse_request_head(f"POST /v1/completions HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode(), 100)


def ask(body: dict[str, Any], **headers: str) -> Ask:
    return read_ask(head(**headers), json.dumps(body).encode(), (b"x-session-id",))


def shared(one: Ask, other: Ask) -> int:
    """Tokens of the longest common prefix, as an index sees it."""
    tokens = 0
    for a, b, end in zip(one.prompt.keys, other.prompt.keys, one.prompt.ends, strict=False):
        if a != b:
            break
        tokens = end
    return tokens


@pytest.mark.parametrize(
    ("prompt", "tokens", "keys"),
    [("", 0, 0), ("abcd", 1, 1), ("abcde", 2, 1), ("x" * CHUNK, 64, 1), ("x" * (CHUNK + 1), 65, 2), ("é" * CHUNK, 128, 2)],
)
def test_a_text_has_a_key_for_each_chunk(prompt: str, tokens: int, keys: int) -> None:
    asked = ask({"prompt": prompt})
    assert (asked.prompt.tokens, len(asked.prompt.keys)) == (tokens, keys)


def test_equal_beginnings_share_their_keys() -> None:
    system = "s" * 1000
    one, other = ask({"prompt": system + "one"}), ask({"prompt": system + "other"})
    assert shared(one, other) == 1000 // CHUNK * CHUNK // 4
    assert shared(ask({"prompt": "a" + system}), other) == 0


def test_token_ids_are_counted_exactly_and_share_likewise() -> None:
    one, other = ask({"prompt": list(range(1000))}), ask({"prompt": [*range(900), 7]})
    assert (one.prompt.tokens, other.prompt.tokens) == (1000, 901)
    assert shared(one, other) == 896
    assert ask({"input_ids": list(range(1000))}).prompt == one.prompt


def test_turns_of_a_chat_share_what_came_before_and_one_session() -> None:
    def chat(*texts: str) -> Ask:
        roles = ["system", *("user" if i % 2 == 0 else "assistant" for i in range(len(texts) - 1))]
        return ask({"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]})

    first = chat("s" * 600, "q" * 400)
    second = chat("s" * 600, "q" * 400, "a" * 400, "r" * 400)
    other = chat("s" * 600, "z" * 400)
    assert shared(first, second) == 192
    assert first.session_key == second.session_key != other.session_key
    assert shared(first, other) == 128


def test_parts_of_a_message_count_by_their_text() -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:..."}}]
    one = ask({"messages": [{"role": "user", "content": parts}]})
    other = ask({"messages": [{"role": "user", "content": [parts[0]]}]})
    assert one.prompt.keys != other.prompt.keys
    tools = ask({"messages": [{"role": "user", "content": "look"}], "tools": [{"type": "function"}]})
    assert tools.prompt.keys != ask({"messages": [{"role": "user", "content": "look"}]}).prompt.keys


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {"messages": [None, 3, "x", [], {"role": 4, "content": {"a": 1}}]},
        {"messages": {"a": 1}},
        {"prompt": {"a": "b"}},
        {"prompt": ["a", ["b"], 3]},
        {"prompt": [[1, 2], [3]]},
        {"input": ["a", "b"]},
        {"prompt": "\ud800"},
        {"max_tokens": "many", "user": 3, "stream": "yes"},
    ],
)
def test_odd_bodies_are_the_replicas_business(body: dict[str, Any]) -> None:
    asked = ask(body)
    assert asked.max_tokens == EXPECTED_OUTPUT_TOKENS
    assert not asked.stream


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({}, EXPECTED_OUTPUT_TOKENS),
        ({"max_tokens": 7}, 7),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_output_tokens": 5}, 5),
        ({"sampling_params": {"max_new_tokens": 3}}, 3),
        ({"max_tokens": 0}, EXPECTED_OUTPUT_TOKENS),
        ({"max_tokens": 1 << 80}, 1 << 31),
    ],
)
def test_the_limit_of_the_output(body: dict[str, Any], limit: int) -> None:
    assert ask(body).max_tokens == limit


def test_a_session_is_named_by_its_header_or_its_key_or_how_it_opens() -> None:
    body = {"prompt": "a", "user": "u1"}
    named = ask(body, x_session_id="s1").session_key
    assert named == ask({"prompt": "b"}, x_session_id="s1").session_key
    assert ask(body).session_key == ask({"prompt": "b", "user": "u1"}).session_key != named
    assert ask({**body, "prompt_cache_key": "k"}).session_key == ask({"prompt": "b", "prompt_cache_key": "k"}).session_key
    assert ask({"prompt": "a"}).session_key == ask({"prompt": "a"}).session_key != ask({"prompt": "b"}).session_key


def test_a_tenant_is_named_by_its_header_or_its_key() -> None:
    body = {"prompt": "a"}
    assert ask(body).tenant == 0
    assert ask(body, authorization="Bearer a").tenant == ask(body, authorization="Bearer a").tenant
    assert ask(body, authorization="Bearer a").tenant != ask(body, authorization="Bearer b").tenant
    assert ask(body, authorization="Bearer a", x_tenant_id="t").tenant == ask(body, x_tenant_id="t").tenant


def test_a_keys_number_depends_on_its_place_alone() -> None:
    """Chunks grow where prompts are long; a prefix keeps its keys all the same."""
    short = CHUNK_TOKENS * SHORT_CHUNKS * 4
    text = bytes(i % 251 for i in range(3 * short))
    assert len(text_prompt(text).keys) == SHORT_CHUNKS + 2 * short // 4096
    for size in (100, short - 1, short, short + 1, 2 * short):
        whole, part = text_prompt(text), text_prompt(text[:size])
        full = size // CHUNK if size <= short else SHORT_CHUNKS + (size - short) // 4096
        assert part.keys[:full] == whole.keys[:full]
        assert part.tokens == (size + 3) // 4
    assert token_prompt([]).tokens == 0


def test_eight_thousand_characters_cost_little() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "word " * 1600}], "max_tokens": 9}).encode()
    request, least = head(), 1.0
    for _ in range(30):
        began = time.process_time()
        for _ in range(20):
            read_ask(request, body, (b"x-session-id",))
        least = min(least, (time.process_time() - began) / 20)
    assert least < 200e-6, "40 µs here; the bound leaves room for slow machines"
