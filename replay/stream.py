"""One streaming completion over loopback HTTP: sends it, reads the answer as it comes. It keeps no books."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httptools

GAUGES_TIMEOUT_S = 5.0
_HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_BROKEN = (OSError, httptools.HttpParserError, ValueError)


class NoGauges(Exception):
    """A replica's `/metrics` did not come, came too late, or could not be read."""


@dataclass
class StreamEnd:
    """How a stream ended. `status`: the HTTP status, the code of an error event inside the stream (engines refuse a stream as
    HTTP 200 with one), or 0 where the connection was lost. `usage` as the engine counted; `token_ids` where it returned them;
    `max_gap_s` between chunks."""

    status: int = 0
    done: bool = False
    usage: dict[str, Any] = field(default_factory=dict)
    token_ids: list[int] = field(default_factory=list)
    error: str = ""
    max_gap_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.done and not self.error and "completion_tokens" in self.usage


class _Answer:
    """Parses status, headers and server-sent events incrementally; whole events wait in `events`."""

    def __init__(self) -> None:
        self.status = 0
        self.complete = False
        self.events: list[bytes] = []
        self._pending = b""
        self._parser: Any = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes."""
        self._parser.feed_data(data)
        events, self.events = self.events, []
        return events

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        *lines, self._pending = (self._pending + body).split(b"\n")
        self.events += [line[6:].strip() for line in lines if line.startswith(b"data: ")]

    def on_message_complete(self) -> None:
        self.complete = True


async def stream_completion(port: int, body: dict[str, Any], on_first_chunk: Callable[[], None]) -> StreamEnd:
    """POST a completion to a replica on this machine and follow it to its end.

    `on_first_chunk` is called once; what it raises is not caught. Cancelling this coroutine closes the connection.
    """
    end, answer = StreamEnd(), _Answer()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError as error:
        end.error = f"connect: {error}"
        return end
    try:
        payload = json.dumps(body).encode()
        writer.write(_HEAD % len(payload) + payload)
        last_s: float | None = None
        while not (answer.complete or end.done):
            try:
                data = await reader.read(65536)
                chunks = _chunks(answer.feed(data), end) if data else None
            except _BROKEN as error:
                end.error = f"stream: {' '.join(str(error).split())}"
                break
            if chunks is None:
                break
            last_s = _note_chunks(chunks, last_s, end, on_first_chunk)
    finally:
        writer.close()
    return _judged(end, answer)


def _chunks(events: list[bytes], end: StreamEnd) -> int:
    """Read events into `end`; returns how many of them carried text."""
    chunks = 0
    for data in events:
        if data == b"[DONE]":
            end.done = True
            continue
        event = json.loads(data)
        if "error" in event:
            end.error = str(event["error"])
            end.status = int(event["error"].get("code", 500)) if isinstance(event["error"], dict) else 500
        end.usage = event.get("usage") or end.usage
        for choice in event.get("choices") or ():
            chunks += 1
            end.token_ids += choice.get("token_ids") or ()
    return chunks


def _note_chunks(chunks: int, last_s: float | None, end: StreamEnd, on_first_chunk: Callable[[], None]) -> float | None:
    if not chunks:
        return last_s
    now_s = asyncio.get_running_loop().time()
    if last_s is None:
        on_first_chunk()
    else:
        end.max_gap_s = max(end.max_gap_s, now_s - last_s)
    return now_s


def _judged(end: StreamEnd, answer: _Answer) -> StreamEnd:
    """Settle the status: an error event's code stands, a stream without its end is a lost connection."""
    if end.error:
        return end
    end.status = answer.status
    if answer.status == 200 and not end.done:
        end.status, end.error = 0, "truncated stream"
    elif answer.status == 200 and "completion_tokens" not in end.usage:
        end.error = "no usage in the stream: tokens are not known"
    elif answer.status != 200:
        end.error = f"HTTP {answer.status}" if answer.status else "closed without an answer"
    return end


async def fetch_gauges(port: int) -> dict[str, float]:
    """A replica's `/metrics` as name → value (labels are dropped); NoGauges when it cannot be had within 5 s."""
    try:
        async with asyncio.timeout(GAUGES_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
                text = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
            finally:
                writer.close()
        lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
        return {name.partition("{")[0]: float(value) for name, _, value in lines}
    except (OSError, TimeoutError, ValueError) as error:
        raise NoGauges(f"port {port}: {' '.join(str(error).split()) or type(error).__name__}") from error
