"""A client of one streamed completion on token ids: what came when, the usage, the error. It knows nothing of our model."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit


def token_ids(content_id: int, n: int, vocabulary: int = 4000) -> list[int]:
    """Tokens of a content, the same whenever it is asked for; special tokens are left out."""
    x, ids = content_id * 2654435761 + 1, []
    for _ in range(n):
        x = (x * 6364136223846793005 + 1442695040888963407) & ((1 << 64) - 1)
        ids.append(3 + (x >> 33) % (vocabulary - 3))
    return ids


class Stream:
    """One request under way in a thread of its own. `tokens`: (monotonic seconds, tokens out so far), a pair a chunk."""

    def __init__(self, url: str, prompt: list[int], max_tokens: int, **more: Any) -> None:
        self.tokens: list[tuple[float, int]] = []
        self.reply: list[int] = []
        self.usage: dict[str, Any] = {}
        self.status = 0
        self.error: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.done_seen = False
        body = {
            "model": "tiny",
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            **more,
        }
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)
        self._connection.request("POST", "/v1/completions", json.dumps(body), {"content-type": "application/json"})
        self._sock: socket.socket = self._connection.sock
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def first_token_s(self) -> float:
        return self.tokens[0][0]

    @property
    def cached_tokens(self) -> int:
        return int((self.usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)

    def wait(self, timeout_s: float = 120.0) -> "Stream":
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise TimeoutError(f"the stream is still open after {timeout_s:.0f} s ({self.tokens[-1:]})")
        return self

    def wait_tokens(self, n: int, timeout_s: float = 60.0) -> "Stream":
        """Until `n` tokens are out."""
        until = time.monotonic() + timeout_s
        while not self.tokens or self.tokens[-1][1] < n:
            if time.monotonic() > until or not self._thread.is_alive():
                raise TimeoutError(f"{n} tokens are not out: {self.tokens[-1:]}, {self.error}")
            time.sleep(0.002)
        return self

    def tokens_at(self, at_s: float) -> int:
        """Tokens that had come by then."""
        return max((out for t, out in self.tokens if t <= at_s), default=0)

    def hang_up(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        try:
            answer = self._connection.getresponse()
            self.status = answer.status
            if answer.status != 200:
                self.error = json.loads(answer.read())
                return
            for line in answer:
                if line.startswith(b"data: "):
                    self._event(line[6:].strip())
        except (OSError, http.client.HTTPException):
            pass  # hung up
        finally:
            self._connection.close()

    def _event(self, data: bytes) -> None:
        now_s = time.monotonic()
        if data == b"[DONE]":
            self.done_seen = True
            return
        event = json.loads(data)
        if "error" in event:
            self.error = event["error"]
            return
        if event.get("usage"):
            self.usage |= {k: v for k, v in event["usage"].items() if v is not None}
        for choice in event["choices"]:
            self.finish_reason = choice.get("finish_reason") or self.finish_reason
            self.reply += choice.get("token_ids") or []
        out = int(self.usage.get("completion_tokens") or 0)
        if out > (self.tokens[-1][1] if self.tokens else 0):
            self.tokens.append((now_s, out))


def stalls(stream: Stream, others: Sequence[Stream], tokens: int) -> list[int]:
    """After which tokens a stream stood still while another one put out `tokens` more (a busy client lags by fewer)."""
    found = []
    for (from_s, out), (to_s, then) in pairwise(stream.tokens):
        passed = max(o.tokens_at(to_s) - o.tokens_at(from_s) for o in others)
        if passed - (then - out) >= tokens:
            found.append(out)
    return found
