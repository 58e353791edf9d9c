"""Asks one engine's server over HTTP: health, metrics, a short completion, a flush. It starts nothing and judges nothing."""

import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from replicas.launch.failed import EngineFailed

# A proxy of the environment is for the world outside, never for a pool.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_BROKEN = (OSError, HTTPException, ValueError)


@dataclass(frozen=True, slots=True)
class Completed:
    """What the engine says of one completion; `cached_tokens` None where it does not say."""

    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None
    took_s: float


@dataclass(frozen=True, slots=True)
class EngineApi:
    """The OpenAI API of vLLM or SGLang at `url`, http://HOST:PORT; its key is in variable `api_key_variable`, and never shown."""

    url: str
    model: str
    api_key_variable: str | None = None

    def get(self, path: str, timeout_s: float = 5.0) -> tuple[int, str]:
        """(status, body), errors of the server included; EngineFailed when none comes."""
        return self._ask(urllib.request.Request(f"{self.url}{path}", headers=self._headers()), timeout_s)

    def post(self, path: str, body: object = None, timeout_s: float = 30.0) -> tuple[int, str]:
        """As `get`; `body` goes as JSON."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {**self._headers(), "content-type": "application/json"}
        return self._ask(urllib.request.Request(f"{self.url}{path}", data, headers, method="POST"), timeout_s)

    def complete(self, prompt: list[int], output_tokens: int, timeout_s: float = 60.0) -> Completed:
        """A greedy completion of token ids, not streamed; EngineFailed for anything but 200 with the tokens asked for."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        began_s = time.monotonic()
        status, text = self.post("/v1/completions", body, timeout_s)
        usage = _usage(text) if status == 200 else {}
        if usage.get("completion_tokens") != output_tokens:
            raise EngineFailed(f"{self.url}/v1/completions: HTTP {status}, {output_tokens} tokens asked for: {one_line(text)}")
        details = usage.get("prompt_tokens_details") or {}
        return Completed(usage["prompt_tokens"], output_tokens, details.get("cached_tokens"), time.monotonic() - began_s)

    def _headers(self) -> dict[str, str]:
        if self.api_key_variable is None:
            return {}
        if not (key := os.environ.get(self.api_key_variable)):
            raise ValueError(f"the variable {self.api_key_variable}, which should hold the key of {self.url}, is not set")
        return {"authorization": f"Bearer {key}"}

    def _ask(self, request: urllib.request.Request, timeout_s: float) -> tuple[int, str]:
        try:
            try:
                with _OPENER.open(request, timeout=timeout_s) as answer:
                    return answer.status, answer.read().decode(errors="replace")
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode(errors="replace")
        except _BROKEN as error:
            raise EngineFailed(
                f"{request.get_method()} {request.full_url}: {one_line(str(error) or type(error).__name__)}"
            ) from error


def _usage(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text).get("usage") or {})
    except (ValueError, AttributeError):
        return {}


def one_line(text: str, limit: int = 300) -> str:
    return " ".join(text.split())[:limit]
