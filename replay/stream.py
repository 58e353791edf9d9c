"""One streaming completion over loopback HTTP: sends it, reads the answer as it comes. It keeps no books."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools


@dataclass
class StreamEnd:
    """How a stream ended: `status` 0 = connection lost; `usage` as the engine counted; `max_gap_s` between chunks."""

    status: int = 0
    done: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    max_gap_s: float = 0.0


class _Answer:
    """Parses status, headers and server-sent events incrementally."""

    def __init__(self, on_chunk: Callable[[], None]) -> None:
        self.end = StreamEnd()
        self.complete = False
        self._on_chunk = on_chunk
        self._pending = b""
        self.parser: Any = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        self.end.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        *lines, self._pending = (self._pending + body).split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                self._on_data(line[6:].strip())

    def on_message_complete(self) -> None:
        self.complete = True

    def _on_data(self, data: bytes) -> None:
        if data == b"[DONE]":
            self.end.done = True
            return
        event = json.loads(data)
        if "error" in event:
            self.end.error = str(event["error"])
        self.end.usage = event.get("usage") or self.end.usage
        if event.get("choices"):
            self._on_chunk()


async def stream_completion(port: int, body: dict[str, Any], on_first_chunk: Callable[[], None]) -> StreamEnd:
    """POST a completion to a replica on this machine and follow it to its end.

    `on_first_chunk` is called once. Cancelling this coroutine closes the connection (the client hangs up).
    """
    loop = asyncio.get_running_loop()
    last_s: float | None = None

    def on_chunk() -> None:
        nonlocal last_s
        now_s = loop.time()
        if last_s is None:
            on_first_chunk()
        else:
            answer.end.max_gap_s = max(answer.end.max_gap_s, now_s - last_s)
        last_s = now_s

    answer = _Answer(on_chunk)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        return StreamEnd(error=f"connect: {error}")
    try:
        payload = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(payload)}\r\n\r\n"
        writer.write(head.encode() + payload)
        while not (answer.complete or answer.end.done):
            data = await reader.read(65536)
            if not data:
                break
            answer.parser.feed_data(data)
    except (ConnectionError, httptools.HttpParserError) as error:
        answer.end.error = f"stream: {error}"
    finally:
        writer.close()
    if answer.end.status == 200 and not answer.end.done and not answer.end.error:
        answer.end.error = "truncated stream"
    return answer.end


async def fetch_gauges(port: int) -> dict[str, float]:
    """A replica's `/metrics` as name → value (labels are dropped; ConnectionError when it does not answer)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        text = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
    finally:
        writer.close()
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name.partition("{")[0]: float(value) for name, value, *_ in lines}
