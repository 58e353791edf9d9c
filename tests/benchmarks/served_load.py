"""Open-loop load on served replicas, as a process of its own: `python served_load.py URL,URL… RPS SECONDS PROMPT OUTPUT`.

Prints one JSON object: streams sent and ended well, how many were open at once (mean of the second half, and peak), its own CPU
seconds.
"""

import asyncio
import json
import random
import sys
import time
from functools import partial
from urllib.parse import urlsplit


class Stream(asyncio.Protocol):
    """One completion; it only looks for the end."""

    open = peak = done = chunks = 0

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)
        Stream.open += 1
        Stream.peak = max(Stream.peak, Stream.open)

    def data_received(self, data: bytes) -> None:
        Stream.chunks += data.count(b"\ndata: {")
        self._tail = (self._tail + data)[-32:]
        if b"[DONE]" in self._tail:
            Stream.done += 1
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        Stream.open -= 1


def request(draw: random.Random, prompt: int, output: int) -> bytes:
    ids = [draw.randrange(32_000) for _ in range(prompt)]
    asked = {"prompt": ids, "max_tokens": output, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    head = b"POST /v1/completions HTTP/1.1\r\nhost: load\r\ncontent-type: application/json\r\nconnection: close\r\n"
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


async def load(urls: list[str], rps: float, seconds: float, prompt: int, output: int) -> dict[str, float]:
    loop, draw = asyncio.get_running_loop(), random.Random(1)
    ports = [urlsplit(url).port or 80 for url in urls]
    began_s = at_s = loop.time()
    open_then: list[int] = []
    connecting = set()
    while at_s < began_s + seconds:
        at_s += draw.expovariate(rps)
        await asyncio.sleep(max(0.0, at_s - loop.time()))
        made = request(draw, prompt, output)
        port = ports[len(open_then) % len(ports)]
        task = asyncio.ensure_future(loop.create_connection(partial(Stream, made), "127.0.0.1", port))
        connecting.add(task)
        task.add_done_callback(connecting.discard)
        open_then.append(Stream.open)
    while Stream.open and loop.time() < began_s + seconds + 60:
        await asyncio.sleep(0.1)
    later = open_then[len(open_then) // 2 :]
    return {
        "sent": len(open_then),
        "done": Stream.done,
        "chunks": Stream.chunks,
        "open_mean": sum(later) / len(later),
        "open_peak": Stream.peak,
        "cpu_s": time.process_time(),
    }


if __name__ == "__main__":
    urls, *numbers = sys.argv[1:]
    rps, seconds, prompt, output = map(float, numbers)
    print(json.dumps(asyncio.run(load(urls.split(","), rps, seconds, int(prompt), int(output)))))
