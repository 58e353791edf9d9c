"""What a client asks for in a completion or chat body, checked. It knows tokens, no engine and no connection.

Sampling parameters (temperature, top_p, seed, penalties, …), tools and response formats are read over: a simulated model has one
answer to a prompt. What would change the shape of an answer and cannot be given is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from replicas.sequence import Stage
from replicas.served.api_error import ApiError
from replicas.served.made_up import Ids
from replicas.served.tokens import Message, Tokens

DEFAULT_COMPLETION_TOKENS = 16
_ABSENT = ("echo", "suffix", "logprobs", "prompt_logprobs", "top_logprobs", "use_beam_search", "prompt_embeds")


@dataclass(frozen=True, slots=True)
class Ask:
    """`max_tokens` None: as many as the context holds. `stop` holds texts and `stop_ids` tokens that end a reply. `listed`: the
    prompts came in a list, and so does what is answered."""

    chat: bool
    model: str | None
    prompts: tuple[Ids, ...]
    max_tokens: int | None
    min_tokens: int
    stop: tuple[str, ...]
    stop_ids: frozenset[int]
    keeps_stop: bool
    stream: bool
    with_usage: bool
    usage_always: bool
    with_ids: bool
    stage: Stage
    priority: int
    listed: bool = False


def read_completion(body: dict[str, Any], tokens: Tokens) -> Ask:
    """Of `/v1/completions`; ApiError 400 names the field and what is wrong with it."""
    prompts = tuple(ids_of(prompt, tokens) for prompt in _prompts(body.get("prompt")))
    given = number(body, "max_tokens", 1)
    return _ask(body, False, prompts, DEFAULT_COMPLETION_TOKENS if given is None else given)


def read_chat(body: dict[str, Any], tokens: Tokens) -> Ask:
    """Of `/v1/chat/completions`."""
    ids = ids_of(tokens.encode(chat_text(body.get("messages"), tokens), False), tokens)
    given = number(body, "max_completion_tokens", 1)
    return _ask(body, True, (ids,), number(body, "max_tokens", 1) if given is None else given)


def chat_text(messages: object, tokens: Tokens) -> str:
    """The messages of a chat through its template."""
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages: a list of at least one message must be provided", param="messages")
    try:
        return tokens.render([_message(message, i) for i, message in enumerate(messages)])
    except ValueError as error:
        raise ApiError(400, str(error), param="messages") from error


def _ask(body: dict[str, Any], chat: bool, prompts: tuple[Ids, ...], max_tokens: int | None) -> Ask:
    n = number(body, "n", None)
    if n is not None and n < 1:
        raise ApiError(400, f"n must be at least 1, got {n}.")
    if (n or 1) > 1 or (number(body, "best_of", 1) or 1) > 1:
        raise ApiError(400, f"n and best_of must be 1 here, got n = {n}: a simulated model has one answer to a prompt.")
    for name in _ABSENT:
        if body.get(name) not in (None, False, 0, "") and not (chat and name == "top_logprobs" and not body.get("logprobs")):
            raise ApiError(400, f"{name} is not supported by a simulated engine.", param=name)
    min_tokens = number(body, "min_tokens", 0) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise ApiError(400, f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}.")
    stream, options = bool(body.get("stream")), body.get("stream_options")
    if options is not None and (not stream or not isinstance(options, dict)):
        raise ApiError(400, "Stream options can only be defined when `stream=True`.", param="stream_options")
    options = options or {}
    return Ask(
        chat=chat,
        model=typed(body, "model", str, "a text"),
        prompts=prompts,
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        stop=stops(body.get("stop")),
        stop_ids=frozenset(whole_numbers(body.get("stop_token_ids") or [], "stop_token_ids")),
        keeps_stop=bool(body.get("include_stop_str_in_output")),
        stream=stream,
        with_usage=bool(options.get("include_usage")),
        usage_always=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        with_ids=bool(body.get("return_token_ids")),
        stage=_stage(body),
        priority=number(body, "priority", None) or 0,
    )


def _prompts(prompt: object) -> list[str | list[int]]:
    """The forms that a prompt comes in: a text, token ids, or a list of either."""
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt, list) and prompt:
        if isinstance(prompt[0], int):
            return [prompt]
        if all(isinstance(part, str) for part in prompt) or all(isinstance(part, list) and part for part in prompt):
            return prompt
    if prompt == []:
        raise ApiError(400, "You must pass at least one prompt")
    allowed = "prompt: a text, token ids, or a list of either must be provided and non-empty. (parameter=prompt)"
    raise ApiError(400, allowed, param="prompt")


def ids_of(prompt: str | list[int], tokens: Tokens) -> Ids:
    if isinstance(prompt, str):
        prompt = tokens.encode(prompt, True)
    if not prompt:
        raise ApiError(400, "The decoder prompt cannot be empty", param="prompt")
    try:
        ids = np.array(prompt)
    except (ValueError, OverflowError):  # ragged, or beyond 64 bits
        ids = np.empty(0, dtype=object)
    if ids.ndim != 1 or ids.dtype.kind != "i":
        raise ApiError(400, "prompt: token ids are whole numbers", param="prompt")
    wrong = ids[(ids < 0) | (ids >= tokens.vocab_size)]
    if wrong.size:
        raise ApiError(400, f"Token id {wrong[0]} is out of vocabulary")
    return ids.astype(np.int32)


def _message(message: object, i: int) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise ApiError(400, f"messages[{i}]: an object with a role is required", param="messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, i) for part in content)
    if content is not None and not isinstance(content, str):
        raise ApiError(400, f"messages[{i}].content: a text or a list of text parts is required", param="messages")
    return {**message, "content": content or ""}


def _part(part: object, i: int) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        text: str = part["text"]
        return text
    raise ApiError(400, f"messages[{i}].content: this model reads text parts only", param="messages")


def number(body: dict[str, Any], name: str, least: int | None) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ApiError(400, f"{name} must be a whole number, got {repr(value)[:40]}.", param=name)
    if least is not None and value < least:
        raise ApiError(400, f"{name} must be at least {least}, got {value}. (parameter={name}, value={value})", param=name)
    return value


def typed(body: dict[str, Any], name: str, kind: type, allowed: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise ApiError(400, f"{name} must be {allowed}, got {repr(value)[:40]}.", param=name)
    return value


def stops(stop: object) -> tuple[str, ...]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(s, str) and s for s in stops):
        raise ApiError(400, "stop: a text or a list of texts is required, and none may be empty", param="stop")
    return tuple(stops)


def whole_numbers(values: object, name: str) -> list[int]:
    if not isinstance(values, list) or not all(isinstance(v, int) for v in values):
        raise ApiError(400, f"{name}: a list of whole numbers is required", param=name)
    return values


def _stage(body: dict[str, Any]) -> Stage:
    """Which half of a prefill/decode pair this is, as vLLM's KV connectors are told."""
    transfer = typed(body, "kv_transfer_params", dict, "an object") or {}
    if transfer.get("do_remote_decode"):
        return "prefill"
    return "decode" if transfer.get("do_remote_prefill") else "serve"


Reader = Callable[[dict[str, Any], Tokens], Ask]
