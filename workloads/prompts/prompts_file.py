"""Requests with their prompts as JSON lines, for other tools to send. It does not know how a prompt is made."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from workloads.columns import aside_of
from workloads.request import Request

Realised = str | npt.NDArray[np.int32]


def write_prompts(requests: Iterable[Request], realise: Callable[[Request], Realised], out: Path) -> int:
    """Write one line a request, in their order, aside and then renamed; returns how many.

    A line holds request_id, session_id, turn, arrival_s (first turns) or think_s (later ones), the other being null,
    `prompt` or `prompt_token_ids` as `realise` gives text or ids, and max_tokens.
    """
    count = 0
    with aside_of(out) as aside, aside.open("w", encoding="utf-8") as file:
        for request in requests:
            file.write(json.dumps(_line(request, realise(request))) + "\n")
            count += 1
    return count


def _line(request: Request, prompt: Realised) -> dict[str, object]:
    return {
        "request_id": request.request_id,
        "session_id": request.session_id,
        "turn": request.turn,
        "arrival_s": request.arrival_s,
        "think_s": request.think_s,
        **({"prompt": prompt} if isinstance(prompt, str) else {"prompt_token_ids": prompt.tolist()}),
        "max_tokens": request.output_tokens,
    }
