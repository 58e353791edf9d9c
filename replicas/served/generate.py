"""SGLang's own `/generate`: what its body asks for, and how it is answered. It knows no engine and no transport.

As there, each event of a stream repeats all that has come so far. Several prompts are answered as a list; in a stream each event
says by `index` whose it is. A prompt that is too long for the context is HTTP 400 in a stream, too (there: 200, an error event).
"""

import json
from typing import Any

from replicas.served.answer import Answer, Choice
from replicas.served.api_error import ApiError
from replicas.served.ask import Ask, ids_of, number, stops, typed, whole_numbers
from replicas.served.meter import queue_time_s
from replicas.served.tokens import Tokens

DEFAULT_NEW_TOKENS = 128
_READ = {"max_new_tokens", "min_new_tokens", "stop", "stop_token_ids", "n", "no_stop_trim"}
_SAMPLING = {"temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"}
_CONSTRAINTS = {"json_schema", "regex", "ebnf", "structural_tag", "stop_regex"}
_OTHERS = {"ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "stream_interval", "logit_bias"}
_KNOWN = _READ | _SAMPLING | _CONSTRAINTS | _OTHERS | {"sampling_seed", "custom_params", "beam_width", "watermark", "choice"}


def read_generate(body: dict[str, Any], tokens: Tokens) -> Ask:
    """Of `/generate`; ApiError 400 names the field and what is wrong with it."""
    sampling = _sampling(body.get("sampling_params"))
    prompts, listed = _prompts(body)
    max_tokens = number(sampling, "max_new_tokens", None)
    if max_tokens is not None and max_tokens < 0:
        raise ApiError(400, f"max_new_tokens must be at least 0, got {max_tokens}.")
    if max_tokens == 0:
        raise ApiError(400, "max_new_tokens must be at least 1 here, got 0: a simulated engine puts out a token.")
    if (number(sampling, "n", 1) or 1) > 1:
        raise ApiError(400, "n must be 1 here: a simulated model has one answer to a prompt.")
    if body.get("return_logprob"):
        raise ApiError(400, "return_logprob is not supported by a simulated engine.")
    return Ask(
        chat=False,
        model=None,
        prompts=tuple(ids_of(prompt, tokens) for prompt in prompts),
        max_tokens=DEFAULT_NEW_TOKENS if max_tokens is None else max_tokens,
        min_tokens=number(sampling, "min_new_tokens", 0) or 0,
        stop=stops(sampling.get("stop")),
        stop_ids=frozenset(whole_numbers(sampling.get("stop_token_ids") or [], "stop_token_ids")),
        keeps_stop=bool(sampling.get("no_stop_trim")),
        stream=bool(body.get("stream")),
        with_usage=False,
        usage_always=True,  # every event tells it
        with_ids=True,
        stage="serve",
        priority=number(body, "priority", None) or 0,
        listed=listed,
    )


def _sampling(given: object) -> dict[str, Any]:
    """One set of sampling parameters; of a list with one for each prompt, all must be alike."""
    if isinstance(given, list) and given:
        if any(other != given[0] for other in given):
            raise ApiError(400, "sampling_params must be the same for all prompts here.")
        given = given[0]
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ApiError(400, "sampling_params: an object, or a list of one for each prompt, is required")
    unknown = set(given) - _KNOWN
    if unknown:
        raise ApiError(400, f"unknown field `{min(unknown)}`, expected one of {', '.join(sorted(_KNOWN))}")
    return given


def _prompts(body: dict[str, Any]) -> tuple[list[Any], bool]:
    """Prompts as texts or token ids, and whether they came in a list."""
    ids, text = typed(body, "input_ids", list, "a list of token ids, or of such lists"), body.get("text")
    if ids is None:
        if isinstance(text, str):
            return [text], False
        if isinstance(text, list) and text and all(isinstance(part, str) for part in text):
            return text, True
        raise ApiError(400, "Either text, input_ids or input_embeds should be provided.")
    if not ids or [] in ids:
        raise ApiError(400, "input_ids cannot be empty.")
    return (ids, True) if isinstance(ids[0], list) else ([ids], False)


class GenerateAnswer(Answer):
    """`text` and `output_ids` of all tokens so far, and `meta_info`."""

    def _frames(self, choice: Choice, upto: int, last: bool) -> bytes:
        choice.said += choice.text(upto)
        choice.sent = upto
        event = self._result(choice, last)
        if self.ask.listed:
            event["index"] = choice.index
        return self.connection.frame(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _whole(self) -> Any:
        for choice in self.choices:
            choice.said += choice.text(choice.sequence.generated)
            choice.sent = choice.sequence.generated
        results = [self._result(choice, True) for choice in self.choices]
        return results if self.ask.listed else results[0]

    def _result(self, choice: Choice, last: bool) -> dict[str, Any]:
        return {"text": choice.said, "output_ids": choice.ids[: choice.sent], "meta_info": self._meta(choice, last)}

    def _meta(self, choice: Choice, last: bool) -> dict[str, Any]:
        sequence, cached = choice.sequence, choice.sequence.cached_tokens
        meta = {
            "id": f"{self.request_id}-{choice.index}" if self.ask.listed else self.request_id,
            "finish_reason": _finish_reason(choice) if last else None,
            "prompt_tokens": sequence.prompt_tokens,
            "weight_version": "default",
            "queue_time": queue_time_s(sequence, choice),
            "reasoning_tokens": 0,
            "completion_tokens": choice.sent,
            "cached_tokens": cached,
            "cached_tokens_details": {"device": cached, "host": 0} if cached else None,
            "dp_rank": None,
        }
        return {**meta, **_latencies(choice)} if last else meta


def _latencies(choice: Choice) -> dict[str, float]:
    assert choice.first_s is not None
    assert choice.ended_s is not None
    decode_s = choice.ended_s - choice.first_s
    known = {"e2e_latency": choice.ended_s - choice.submitted_s, "first_token_latency": choice.first_s - choice.submitted_s}
    return {**known, "decode_throughput": (choice.sent - 1) / decode_s} if decode_s > 0 else known


def _finish_reason(choice: Choice) -> dict[str, Any]:
    if choice.stop is None:
        return {"type": "length", "length": choice.sent}
    return {"type": "stop", "matched": choice.stop.reason}
