"""One simulated replica behind one port: its life, and what it does with completions. It knows one engine and no router.

`async with` starts and stops it; several may live in one process and event loop, each with its own engine and port.
"""

import asyncio
import hmac
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from replicas.engine import Engine
from replicas.profile import EngineProfile
from replicas.sequence import Sequence
from replicas.served.answer import Answer, Choice
from replicas.served.api_error import ApiError
from replicas.served.ask import Ask
from replicas.served.connection import Connection, HttpRequest, Limits
from replicas.served.dialects.dialect import Dialect, bad_json
from replicas.served.dialects.sglang import Sglang
from replicas.served.dialects.vllm import Vllm
from replicas.served.endpoints import Endpoints
from replicas.served.entries import Entry, entries_of
from replicas.served.faults import Fault
from replicas.served.made_up import Ids, reply_seed
from replicas.served.stop import find_stop
from replicas.served.token_tree import TokenTree, chunk_tokens
from replicas.served.tokens import LetterTokens, Tokens
from replicas.served.turns import Turns
from replicas.served.wall_clock import WallClock
from replicas.served.watch import Watch

DIALECTS: dict[str, Callable[[], Dialect]] = {"vllm": Vllm, "sglang": Sglang}
_BACKLOG = 4096
_OPEN_PATHS = ("/health", "/health_generate", "/metrics", "/ping")
_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


@dataclass(frozen=True, slots=True)
class Serving:
    """How a replica is served. `model` None: the profile's name; `port` 0: any free one; `admin`: `POST /fault` exists;
    `turns` is shared by the replicas of an event loop."""

    host: str = "127.0.0.1"
    port: int = 0
    flavour: str = "vllm"
    model: str | None = None
    tokens: Tokens = field(default_factory=LetterTokens)
    api_key: str | None = None
    admin: bool = False
    limits: Limits = field(default_factory=Limits)
    turns: Turns = field(default_factory=Turns)

    def dialect(self) -> Dialect:
        if self.flavour not in DIALECTS:
            raise ValueError(f"flavour {self.flavour!r}: must be one of {', '.join(DIALECTS)}")
        return DIALECTS[self.flavour]()


class ServedReplica(Watch):
    """`epoch_s` is the event loop's time that the engine calls 0; `port` is known once it is started."""

    def __init__(self, profile: EngineProfile, epoch_s: float, serving: Serving | None = None) -> None:
        self.profile, self.serving = profile, serving or Serving()
        self.dialect = self.serving.dialect()
        self.model = self.serving.model or profile.name
        self.meter = self.dialect.meter(profile.context_tokens)
        self.port = self.serving.port
        self.draining = False
        self.clock = WallClock(profile, epoch_s, self.meter.lag_s, self.serving.turns)
        chunk = chunk_tokens(profile.block_tokens, profile.kv_blocks)
        self._tree = TokenTree(chunk, 2 * profile.kv_blocks * profile.block_tokens)
        self._encoded: dict[int, bytes] = {}
        self._entries = entries_of(self.dialect)
        self._endpoints = Endpoints(self)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._next_id = 0
        self._refusal: int | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._restarting: asyncio.Task[None] | None = None

    @property
    def engine(self) -> Engine:
        return self.clock.engine

    @property
    def url(self) -> str:
        return f"http://{self.serving.host}:{self.port}"

    # Its life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> "ServedReplica":
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.clock.stop()
        for timer in self._timers.values():
            timer.cancel()
        if self._restarting is not None:
            self._restarting.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        await asyncio.sleep(0)  # what was written last goes out
        for connection in list(self._connections):
            connection.abort()
        await asyncio.gather(*(connection.closed for connection in list(self._connections)))

    async def drain(self, timeout_s: float) -> bool:
        """Take no new requests, say so at `/health`, and wait for what is under way; False when it was not over in time."""
        self.draining = True
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while self.clock.open or any(connection.busy for connection in self._connections):
            if asyncio.get_running_loop().time() >= deadline_s:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, self.serving.host, self.port, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]

    def _connect(self) -> Connection:
        connection = Connection(self._answer, self.serving.limits)
        self._connections.add(connection)
        connection.closed.add_done_callback(lambda _: self._connections.discard(connection))
        return connection

    # A request --------------------------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, request: HttpRequest) -> None:
        try:
            self._check_key(request)
            entry = self._entries.get(request.path) if request.method == "POST" else None
            if entry is not None:
                self._complete(connection, request, entry)
            else:
                self._endpoints.answer(connection, request)
        except ApiError as error:
            connection.respond(error.status, json.dumps(self.dialect.error(error, request.path)).encode())
        except Exception as error:  # a fault of ours: told to the client and to whoever reads the log, and the server lives on
            asyncio.get_running_loop().call_exception_handler({"message": f"{request.method} {request.path}", "exception": error})
            connection.respond(500, json.dumps(self.dialect.error(ApiError(500, f"{type(error).__name__}: {error}"))).encode())

    def read_json(self, request: HttpRequest) -> dict[str, Any]:
        """The body; ApiError 400 when it is not a JSON object."""
        try:
            body = json.loads(request.body)
        except (ValueError, RecursionError) as error:
            raise ApiError(400, bad_json(error), "Bad Request", "body") from error
        if not isinstance(body, dict):
            raise ApiError(400, "the body must be a JSON object", "Bad Request", "body")
        return body

    def check_model(self, model: str | None) -> None:
        if model is not None and model != self.model:
            error = self.dialect.unknown_model(model, self.model)
            if error is not None:
                raise error

    def _check_key(self, request: HttpRequest) -> None:
        key = self.serving.api_key
        guarded = request.path.startswith("/v1") or (self.dialect.guarded and request.path not in _OPEN_PATHS)
        if key is not None and guarded:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
                raise ApiError(401, "Unauthorized")

    def _complete(self, connection: Connection, request: HttpRequest, entry: Entry) -> None:
        body = self.read_json(request)
        self.check_model(body["model"] if isinstance(body.get("model"), str) else None)
        ask = entry.read(body, self.serving.tokens)
        request_id = entry.prefix + (request.headers.get("x-request-id") or uuid.uuid4().hex)
        answer = entry.answer(ask, connection, self.serving.tokens, ask.model or self.model, request_id, ask.prompts, self)
        answer.encoded = self._encoded
        answer.choices = [self._choice(answer, i, prompt) for i, prompt in enumerate(ask.prompts)]
        connection.responder = answer
        refusal = 503 if self.draining else self._refusal
        for choice in answer.choices:
            status = refusal or self.clock.submit(choice.sequence, choice, self._transfer_s(ask, choice.sequence))
            if status != 200:
                self.on_gone(answer)
                self._refuse(answer, self.dialect.refused(status))
                return

    def _choice(self, answer: Answer, index: int, prompt: Ids) -> Choice:
        ask, tokens = answer.ask, self.serving.tokens
        made = self.dialect.output_tokens(len(prompt), ask.max_tokens, self.profile.context_tokens)
        seed = reply_seed(prompt)
        reply = tokens.reply(seed, made)
        stop = find_stop(reply, ask, tokens) if ask.stop or ask.stop_ids else None
        if stop is not None:
            reply = reply[: stop.tokens]
        path = self._tree.enter(prompt, reply, seed)
        self._next_id += 1
        sequence = Sequence(self._next_id, path, seed, len(reply), ask.stage, made, ask.priority)
        return Choice(answer, index, sequence, reply, stop, self.clock.now_s())

    def _transfer_s(self, ask: Ask, sequence: Sequence) -> float:
        """Seconds that the KV of the decode half of a pair is still under way. Nothing tells the replica that prefilled when it
        has come: with `kv_pin_timeout_s` a served prefill's KV is kept for all of that time."""
        return self.profile.kv_transfer_s(sequence.prompt_tokens) if ask.stage == "decode" else 0.0

    def _refuse(self, answer: Answer, error: ApiError) -> None:
        body = self.dialect.error_event(error) if answer.ask.stream else self.dialect.error(error)
        answer.refuse(body, error.status)

    # What its answers tell it -----------------------------------------------------------------------------------------

    def on_first_token(self, choice: Choice) -> None:
        self.meter.on_first_token(choice.sequence, choice)

    def on_end(self, choice: Choice, now_s: float) -> None:
        reason = "error" if choice.failed else choice.finish_reason
        self.meter.on_end(choice.sequence, reason, choice, now_s)

    def on_gone(self, answer: Answer) -> None:
        for choice in answer.choices:
            if not choice.over:
                choice.over = True
                self.meter.on_abort(self.clock.generated(choice.sequence))
                self.clock.cancel(choice.sequence)

    def catch_up(self, choice: Choice) -> None:
        generated = self.clock.generated(choice.sequence)
        if generated > choice.sent:
            choice.on_tokens(generated)

    def fail(self, answer: Answer, error: ApiError) -> None:
        self.on_gone(answer)
        self._refuse(answer, error)

    # Faults -----------------------------------------------------------------------------------------------------------

    def do(self, fault: Fault) -> None:
        """Begin a fault; one of a kind at a time, the last one counts."""
        if fault.kind == "flush":
            self.engine.cache.flush()
        elif fault.kind == "kill":
            assert fault.for_s is not None
            self._kill(fault.for_s)
        elif fault.kind == "resume":
            self._set_speed(1.0)
            self._set_refusal(None)
        elif fault.kind == "refuse":
            self._set_refusal(fault.status)
            self._after("refuse", fault.for_s, lambda: self._set_refusal(None))
        else:
            self._set_speed(0.0 if fault.kind == "pause" else 1.0 / fault.factor)
            self._after("speed", fault.for_s, lambda: self._set_speed(1.0))

    def _set_speed(self, speed: float) -> None:
        self._cancel_timer("speed")
        self.clock.set_speed(speed)

    def _set_refusal(self, status: int | None) -> None:
        self._cancel_timer("refuse")
        self._refusal = status

    def _after(self, name: str, for_s: float | None, end: Callable[[], None]) -> None:
        if for_s is not None:
            self._timers[name] = asyncio.get_running_loop().call_later(for_s, end)

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _kill(self, for_s: float) -> None:
        """Streams end in an error, the port is closed, and a cold engine listens there after a while."""
        lost = self.clock.restart()
        for answer in {id(choice.answer): choice.answer for choice in lost if isinstance(choice, Choice)}.values():
            self.fail(answer, ApiError(500, _DEAD, "InternalServerError"))
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.close()
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.ensure_future(self._restart(for_s))

    async def _restart(self, for_s: float) -> None:
        await asyncio.sleep(for_s)
        await self._listen()
