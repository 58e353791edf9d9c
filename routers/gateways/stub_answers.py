"""What a stub replica says: of itself, and in answer to a completion. It knows no connection and no time."""

import json
from typing import Any

MODEL = "stub"


def about(path: str, in_flight: int | None) -> tuple[int, object]:
    """Status and body of what is no completion: enough for a gateway to take the stub for a healthy replica. `in_flight` is None
    where the stub does not tell its load (then SGLang's `/get_load` is no path of its)."""
    if path == "/v1/models":
        return 200, {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "stub"}]}
    if path in ("/get_model_info", "/model_info"):
        return 200, {"model_path": MODEL, "served_model_name": MODEL, "is_generation": True}
    if path in ("/get_server_info", "/server_info"):
        return 200, {"model_path": MODEL, "served_model_name": MODEL, "dp_size": 1}
    if path == "/get_load" and in_flight is not None:
        return 200, [{"dp_rank": 0, "num_reqs": in_flight, "num_waiting_reqs": 0, "num_tokens": in_flight * 1000}]
    if path in ("/health", "/health_generate"):
        return 200, {}
    return 404, {"detail": "Not Found"}


def piece(path: str, streams: bool, words: int, reason: str | None) -> dict[str, Any]:
    """Some words of an answer, in the form of the path that was asked; `reason` ends it."""
    text = " w" * words
    if path == "/generate":
        return {"text": text, "meta_info": {"id": "s", "finish_reason": {"type": reason} if reason else None}}
    chat = path.endswith("chat/completions")
    said = {"delta" if streams else "message": {"role": "assistant", "content": text}} if chat else {"text": text}
    kind = "chat.completion" if chat else "text_completion"
    return {"id": "s", "object": kind, "created": 0, "model": MODEL, "choices": [{"index": 0, **said, "finish_reason": reason}]}


def usage_piece(tokens: int) -> dict[str, Any]:
    """The piece of a stream that counts it."""
    return {"id": "s", "object": "text_completion", "created": 0, "model": MODEL, "choices": [], "usage": usage(tokens)}


def usage(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}


def frame(data: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(body: dict[str, Any]) -> bytes:
    """One server-sent event in an HTTP chunk of its own."""
    return frame(b"data: " + json.dumps(body).encode() + b"\n\n")
