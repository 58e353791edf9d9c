"""Completion bodies for trying gateways: prompts that share nothing, as text or as token ids. They mean nothing."""

from typing import Any

from routers.gateways.stub_answers import MODEL
from workloads.draws import purpose_id, uniform

PATH = "/v1/completions"
_WORDS = purpose_id("gateway-fault-prompt")


def token_ids(key: int, n: int = 200) -> list[int]:
    """`n` token ids that are the same for the same key and share nothing with another key's."""
    return [1000 + int(uniform(_WORDS, key, i) * 9000) for i in range(n)]


def completion(key: int, as_text: bool = True, n: int = 200, stream: bool = True) -> dict[str, Any]:
    """A request of 4 tokens whose prompt is its key's alone."""
    ids = token_ids(key, n)
    prompt: object = " ".join(map(str, ids)) if as_text else ids
    return {"model": MODEL, "prompt": prompt, "max_tokens": 4, "stream": stream}
