"""The simulated engine in wall time behind loopback HTTP: OpenAI-style streaming completions and `/metrics`.

First form, for trying the wall-clock path without a GPU: prompts come as segments (`prompt_segments`), and a stream has two
chunks, the first token and the rest. It knows one engine and no router.
"""

import asyncio
import json
from typing import Any

import httptools

from replicas.engine import Engine
from replicas.profile import EngineProfile
from replicas.sequence import Sequence, Stage, State
from workloads.request import Prompt, Segment

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


class WallClockEngine:
    """Drives one `Engine` by the event loop's clock; `epoch_s` is the loop time that the engine calls 0."""

    def __init__(self, profile: EngineProfile, epoch_s: float) -> None:
        self.engine = Engine(profile)
        self._epoch_s = epoch_s
        self._events: dict[Sequence, asyncio.Queue[State]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self._epoch_s

    def submit(self, sequence: Sequence, delay_s: float) -> tuple[int, asyncio.Queue[State]]:
        """(HTTP status, a queue that tells DECODE at the first token and FINISHED or CANCELLED at the end)."""
        self._catch_up()
        events: asyncio.Queue[State] = asyncio.Queue()
        status = self.engine.submit(sequence, self.now_s(), delay_s)
        if status == 200:
            self._events[sequence] = events
        self._set_timer()
        return status, events

    def cancel(self, sequence: Sequence) -> None:
        self._catch_up()
        self.engine.cancel(sequence, self.now_s())
        self._set_timer()

    def stop(self) -> None:
        """No more steps: the replica is going."""
        if self._timer is not None:
            self._timer.cancel()

    def _catch_up(self) -> None:
        """Let the engine do what was due by now, at the times it was due: a late timer does not bend its time line."""
        engine = self.engine
        while engine.next_s <= self.now_s():
            for sequence in engine.on_wake(engine.next_s):
                self._events[sequence].put_nowait(sequence.state)
                if sequence.ended_s is not None:
                    del self._events[sequence]

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.engine.next_s < float("inf"):
            self._timer = asyncio.get_running_loop().call_at(self._epoch_s + self.engine.next_s, self._on_timer)

    def _on_timer(self) -> None:
        self._catch_up()
        self._set_timer()


class ServedReplica:
    """One replica on a loopback port; `async with` starts and stops it. Several may live in one process."""

    def __init__(self, profile: EngineProfile, epoch_s: float) -> None:
        self._clock = WallClockEngine(profile, epoch_s)
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[Any]] = set()
        self._next_id = 0
        self.port = 0

    @property
    def engine(self) -> Engine:
        return self._clock.engine

    async def __aenter__(self) -> "ServedReplica":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self._clock.stop()
        handlers = list(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection: later forms keep it open."""
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        try:
            request = await read_request(reader)
            if request.path == "/metrics":
                await _reply(writer, 200, "text/plain", self._metrics().encode())
            elif request.path == "/v1/completions":
                await self._complete(request.body, reader, writer)
            else:
                await _reply(writer, 404, "application/json", b'{"error":{"message":"no such path","code":404}}')
        except (ConnectionError, asyncio.IncompleteReadError, httptools.HttpParserError):
            pass  # the peer has gone, or does not speak HTTP: nobody to tell
        finally:
            writer.close()

    async def _complete(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            sequence, delay_s = self._sequence(json.loads(body))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            message = {"error": {"message": f"not a completion request: {error!r}", "code": 400}}
            await _reply(writer, 400, "application/json", json.dumps(message).encode())
            return
        status, events = self._clock.submit(sequence, delay_s)
        if status != 200:
            await _reply(writer, status, "application/json", json.dumps({"error": {"code": status}}).encode())
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        hang_up = asyncio.ensure_future(reader.read(1))
        sent = 0
        try:
            while True:
                state = await _next_event(events, hang_up)
                if state is None:
                    self._clock.cancel(sequence)
                    return
                tokens = sequence.generated if state == State.FINISHED else 1
                writer.write(_event({"choices": [{"text": " t" * (tokens - sent)}]}))
                sent = tokens
                if state == State.FINISHED:
                    writer.write(_event({"choices": [], "usage": _usage(sequence)}) + b"data: [DONE]\n\n")
                    await writer.drain()
                    return
        finally:
            hang_up.cancel()

    def _sequence(self, body: dict[str, Any]) -> tuple[Sequence, float]:
        """The engine's request, and the seconds its KV is still under way (decode half of a PD pair)."""
        self._next_id += 1
        transfer = body.get("kv_transfer_params") or {}
        stage: Stage = "serve"
        if transfer.get("do_remote_decode"):
            stage = "prefill"
        elif transfer.get("do_remote_prefill"):
            stage = "decode"
        prompt = Prompt.of(tuple(Segment(i, n) for i, n in body["prompt_segments"]))
        sequence = Sequence(self._next_id, prompt, body["reply_id"], body["max_tokens"], stage)
        delay_s = self.engine.profile.kv_transfer_s_per_token * prompt.tokens if stage == "decode" else 0.0
        return sequence, delay_s

    def _metrics(self) -> str:
        engine, now_s = self.engine, self._clock.now_s()
        return (
            f"vllm:num_requests_running {engine.running}\n"
            f"vllm:num_requests_waiting {engine.waiting}\n"
            f"vllm:kv_cache_usage_perc {engine.kv_used(now_s)}\n"
            f"stampede:latency_seconds {engine.latency_s(now_s)}\n"
        )


class HttpRequest:
    """What httptools tells of one request."""

    def __init__(self) -> None:
        self.path = ""
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.path += url.decode()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def read_request(reader: asyncio.StreamReader) -> HttpRequest:
    """One whole HTTP request; IncompleteReadError when the peer goes before its end."""
    request = HttpRequest()
    parser = httptools.HttpRequestParser(request)
    while not request.complete:
        data = await reader.read(65536)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        parser.feed_data(data)
    return request


async def _next_event(events: asyncio.Queue[State], hang_up: "asyncio.Future[bytes]") -> State | None:
    """The engine's next word on a sequence, or None when the client hung up first."""
    waiter = asyncio.ensure_future(events.get())
    both: set[asyncio.Future[Any]] = {waiter, hang_up}
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if waiter.done():
        return waiter.result()
    waiter.cancel()
    return None


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def _usage(sequence: Sequence) -> dict[str, Any]:
    return {
        "prompt_tokens": sequence.prompt_tokens,
        "completion_tokens": sequence.generated,
        "prompt_tokens_details": {"cached_tokens": sequence.cached_tokens},
    }


async def _reply(writer: asyncio.StreamWriter, status: int, kind: str, body: bytes) -> None:
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
    await writer.drain()
