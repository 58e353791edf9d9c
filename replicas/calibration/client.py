"""Asks a live engine over HTTP: one streamed completion with the time of every chunk, or one small GET. It measures no sweep."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httptools

_BROKEN = (OSError, TimeoutError, httptools.HttpParserError, ValueError)


class CannotMeasure(ValueError):
    """The engine does not answer as a measurement needs it to; one clear line."""


@dataclass(slots=True)
class Timed:
    """One request as its client saw it: seconds on the event loop's clock; `tokens` after each chunk, at `times_s`."""

    tag: str
    prompt_tokens: int
    output_tokens: int
    sent_s: float
    cached_tokens: int = 0
    times_s: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)

    @property
    def first_s(self) -> float:
        return self.times_s[0]

    @property
    def last_s(self) -> float:
        return self.times_s[-1]


class EngineClient:
    """Speaks the OpenAI API of vLLM or SGLang at `url` (http only). Raises CannotMeasure naming what went wrong."""

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = 120.0) -> None:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname:
            raise CannotMeasure(f"--url {url!r}: must be http://HOST:PORT")
        self.url = f"http://{parts.netloc}"
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path.rstrip("/").removesuffix("/v1")
        self._head = f"host: {parts.netloc}\r\n" + (f"authorization: Bearer {api_key}\r\n" if api_key else "")
        self._timeout_s = timeout_s
        self.model = ""

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        status, parts = 0, []
        try:
            async with asyncio.timeout(10.0):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(f"GET {self._path}{path} HTTP/1.1\r\n{self._head}connection: close\r\n\r\n".encode())
                    answer = _Answer()
                    while not answer.complete and (data := await reader.read(1 << 16)):
                        answer.parser.feed_data(data)
                    status, parts = answer.status, answer.body
                finally:
                    writer.close()
        except _BROKEN as error:
            raise CannotMeasure(f"GET {self.url}{path}: {str(error) or type(error).__name__}") from error
        return status, b"".join(parts)

    async def get_json(self, path: str) -> Any:
        """The JSON at `path`, or None where the engine has no such path."""
        status, body = await self.get(path)
        try:
            return json.loads(body) if status == 200 else None
        except ValueError:
            return None

    async def gauges(self) -> dict[str, float]:
        """`/metrics` as name → value, labels dropped and equal names added up."""
        found: dict[str, float] = {}
        for line in (await self.get("/metrics"))[1].decode(errors="replace").splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                try:
                    found[name.partition("{")[0]] = found.get(name.partition("{")[0], 0.0) + float(value)
                except ValueError:
                    continue
        return found

    async def complete(self, tag: str, prompt: list[int], output_tokens: int) -> Timed:
        """Send token ids, follow the stream to its end; exactly `output_tokens` must come."""
        body = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "min_tokens": output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        payload = json.dumps(body, separators=(",", ":")).encode()
        head = f"POST {self._path}/v1/completions HTTP/1.1\r\n{self._head}content-type: application/json\r\n"
        timed = Timed(tag, len(prompt), output_tokens, asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(self._timeout_s):
                reader, writer = await asyncio.open_connection(self._host, self._port)
                try:
                    writer.write(f"{head}content-length: {len(payload)}\r\n\r\n".encode() + payload)
                    await _follow(reader, timed)
                finally:
                    writer.close()
        except _BROKEN as error:
            raise CannotMeasure(f"{tag}: {self.url}/v1/completions: {str(error) or type(error).__name__}") from error
        if not timed.tokens or timed.tokens[-1] != output_tokens:
            got = timed.tokens[-1] if timed.tokens else 0
            raise CannotMeasure(f"{tag}: {output_tokens} tokens asked for, {got} came; the engine must honour ignore_eos")
        return timed


class _Answer:
    """Status, body and completeness of one HTTP response."""

    def __init__(self) -> None:
        self.status, self.complete = 0, False
        self.body: list[bytes] = []
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        self.complete = True


async def _follow(reader: asyncio.StreamReader, timed: Timed) -> None:
    """Read server-sent events into `timed`; ValueError for an error in the stream or a bad status."""
    loop, answer, rest, done = asyncio.get_running_loop(), _Answer(), b"", False
    while not (done or answer.complete):
        data = await reader.read(1 << 16)
        if not data:
            break
        answer.parser.feed_data(data)
        *lines, rest = (rest + b"".join(answer.body)).split(b"\n")
        answer.body.clear()
        if answer.status not in (0, 200):
            lines.append(rest)
            raise ValueError(f"HTTP {answer.status} {b' '.join(lines)[:200].decode(errors='replace')}")
        for line in lines:
            if line.startswith(b"data: "):
                done = _take(line[6:].strip(), timed, loop.time()) or done
    if not done:
        raise ValueError("the stream ended early")


def _take(event: bytes, timed: Timed, now_s: float) -> bool:
    """One event; True at the stream's end."""
    if event == b"[DONE]":
        return True
    data = json.loads(event)
    if "error" in data:
        raise ValueError(f"error event {str(data['error'])[:200]}")
    usage = data.get("usage") or {}
    if data.get("choices"):
        tokens = int(usage.get("completion_tokens") or (timed.tokens[-1] if timed.tokens else 0) + 1)
        if not timed.tokens or tokens > timed.tokens[-1]:
            timed.times_s.append(now_s)
            timed.tokens.append(tokens)
    elif usage:  # the closing event: what was said before it may have been guessed
        timed.tokens[-1:] = [int(usage["completion_tokens"])] if timed.tokens else []
    timed.cached_tokens = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or timed.cached_tokens)
    return False
