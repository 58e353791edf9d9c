"""What a policy may know of a request, from its JSON and its headers. It does not know the replicas' tokenizer.

Tokens are guessed from the text's length, so prompts share keys exactly as far as they share whole chunks of bytes.
"""

import json
from array import array
from dataclasses import dataclass
from typing import Any

from xxhash import xxh64_intdigest

from routers.serve.openai_error import HttpError
from routers.serve.request_head import RequestHead
from routers.tries import EXPECTED_OUTPUT_TOKENS
from workloads.request import Prompt, extend_key

BYTES_A_TOKEN = 4
CHUNK_TOKENS = 64
LONG_CHUNK_TOKENS = 1024
SHORT_CHUNKS = 256  # after so many, chunks are long: a key costs time
MAX_TOKENS = 1 << 31
_MOST_VALUES = 4_000_000  # reading JSON stops all others: 0.1 µs a value
_MASK = (1 << 63) - 1
_NOTHING = Prompt((), ())
_decode = json.JSONDecoder().decode
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")


@dataclass(slots=True)
class Ask:
    """`session_key` is the same for all turns of a conversation, where anything tells."""

    json: dict[str, Any]
    prompt: Prompt
    max_tokens: int
    session_key: int
    tenant: int
    stream: bool


def read_ask(head: RequestHead, body: bytes, session_headers: tuple[bytes, ...]) -> Ask:
    """Reads a request that asks for tokens; HttpError 400 or 413 unless its body is a JSON object or a form of files."""
    if head.known.get(b"content-type", b"").lower().startswith(b"multipart/"):
        return _opaque(head, body, session_headers)
    if len(body) > _MOST_VALUES and body.count(b",") > _MOST_VALUES:
        raise HttpError(413, f"a body of more than {_MOST_VALUES} values")
    try:
        asked = _decode(body.decode())
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(asked, dict):
        raise HttpError(400, "the body must be a JSON object")
    try:
        content, opening = _content(asked)
    except RecursionError:
        raise HttpError(400, "the body is nested too deeply") from None
    prompt = token_prompt(content) if isinstance(content, list) else text_prompt(content)
    session = _session(head, asked, session_headers) or opening
    return Ask(asked, prompt, _max_tokens(asked), _key(session), _tenant(head), asked.get("stream") is True)


def name_of_attempt(head: RequestHead, rid: int) -> tuple[int, int]:
    """(request, client attempt): by our own sender's header, or OpenAI's client's count of retries."""
    named = head.known.get(b"x-stampede-request")
    if named is not None:
        request, _, attempt = named.partition(b".")
        if request.isdigit() and attempt.isdigit() and len(named) < 40:
            return int(request), max(1, int(attempt))
    retries = head.known.get(b"x-stainless-retry-count", b"")
    return rid, int(retries) + 1 if retries.isdigit() and len(retries) < 4 else 1


def _opaque(head: RequestHead, body: bytes, session_headers: tuple[bytes, ...]) -> Ask:
    """A form with files (audio, images): equal where its bytes are, of a length nobody knows."""
    key = _key(body)
    session = _session(head, {}, session_headers)
    prompt = Prompt((key,), (CHUNK_TOKENS,))
    return Ask({}, prompt, EXPECTED_OUTPUT_TOKENS, _key(session) if session else key, _tenant(head), False)


def text_prompt(data: bytes) -> Prompt:
    """The keys of a text, in UTF-8."""
    if not data:
        return _NOTHING
    keys: list[int] = []
    ends: list[int] = []
    key = at = 0
    size = len(data)
    step, switch = CHUNK_TOKENS * BYTES_A_TOKEN, CHUNK_TOKENS * BYTES_A_TOKEN * SHORT_CHUNKS
    while at < size:
        if at == switch:
            step = LONG_CHUNK_TOKENS * BYTES_A_TOKEN
        key = extend_key(key, xxh64_intdigest(data[at : at + step]))
        at += step
        keys.append(key)
        ends.append((min(at, size) + BYTES_A_TOKEN - 1) // BYTES_A_TOKEN)
    return Prompt(tuple(keys), tuple(ends))


def token_prompt(ids: list[int]) -> Prompt:
    """The keys of token ids; HttpError 400 for what are none."""
    try:
        data = array("q", ids)
    except (TypeError, OverflowError):
        raise HttpError(400, "prompt: must be a text, a list of texts, or a list of token ids") from None
    keys: list[int] = []
    ends: list[int] = []
    key = at = 0
    size, step, switch = len(ids), CHUNK_TOKENS, CHUNK_TOKENS * SHORT_CHUNKS
    while at < size:
        if at == switch:
            step = LONG_CHUNK_TOKENS
        key = extend_key(key, xxh64_intdigest(data[at : at + step].tobytes()))
        at += step
        keys.append(key)
        ends.append(min(at, size))
    return Prompt(tuple(keys), tuple(ends))


def _content(asked: dict[str, Any]) -> tuple[bytes | list[int], bytes]:
    """(the prompt, what the conversation opened with): a text as bytes, or token ids."""
    messages = asked.get("messages")
    if isinstance(messages, list):
        return _chat(asked, messages)
    prompt = next((asked[name] for name in ("prompt", "input_ids", "text", "input", "query") if asked.get(name)), "")
    if isinstance(prompt, str):
        data = prompt.encode("utf-8", "surrogatepass")
        return data, data
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return prompt, repr(prompt).encode() if len(prompt) < 64 else repr(prompt[:64]).encode()
    data = _text(prompt).encode("utf-8", "surrogatepass")
    return data, data


def _chat(asked: dict[str, Any], messages: list[Any]) -> tuple[bytes, bytes]:
    parts: list[str] = []
    if asked.get("tools"):
        parts.append(json.dumps(asked["tools"]))
    opening = -1
    for message in messages:
        if not isinstance(message, dict):
            parts.append(_text(message))
            continue
        role = str(message.get("role"))
        content = message.get("content")
        parts.append(f"\n{role}\n{content if isinstance(content, str) else _text(content)}")
        if message.get("tool_calls"):
            parts.append(json.dumps(message["tool_calls"]))
        if opening < 0 and role == "user":
            opening = len(parts)
    data = "".join(parts).encode("utf-8", "surrogatepass")
    if opening < 0 or opening == len(parts):
        return data, data
    return data, "".join(parts[:opening]).encode("utf-8", "surrogatepass")


def _text(content: object) -> str:
    """Anything, as text that is equal where it is equal."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [c["text"] if isinstance(c, dict) and isinstance(c.get("text"), str) else _text(c) for c in content]
        return "\n".join(texts)
    return "" if content is None else json.dumps(content)


def _max_tokens(asked: dict[str, Any]) -> int:
    given = asked
    sampling = asked.get("sampling_params")
    if isinstance(sampling, dict):
        given = {**asked, **sampling}
    for name in _LIMITS:
        value = given.get(name)
        if isinstance(value, int) and value > 0:
            return min(value, MAX_TOKENS)
    return EXPECTED_OUTPUT_TOKENS


def _session(head: RequestHead, asked: dict[str, Any], names: tuple[bytes, ...]) -> bytes:
    for name in names:
        value = head.known.get(name)
        if value:
            return value
    for key in ("prompt_cache_key", "user"):
        value = asked.get(key)
        if isinstance(value, str) and value:
            return value.encode("utf-8", "surrogatepass")
    return b""


def _tenant(head: RequestHead) -> int:
    """By the tenant's header, or else the key that it shows (only its hash is kept)."""
    value = head.known.get(b"x-tenant-id") or head.known.get(b"authorization") or head.known.get(b"x-api-key")
    return _key(value) if value else 0


def _key(data: bytes) -> int:
    return xxh64_intdigest(data) & _MASK
