"""The small paths of a served replica: health, models, metrics, loads, tokens, cache, faults. It starts no sequence."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from replicas.served.api_error import ApiError
from replicas.served.ask import chat_text
from replicas.served.connection import Connection, HttpRequest
from replicas.served.dialects.dialect import Gauges
from replicas.served.exposition import gauge, histogram
from replicas.served.faults import read_fault

if TYPE_CHECKING:
    from replicas.served.replica import ServedReplica

_COMMON: dict[str, tuple[str, ...]] = {
    "/health": ("GET",),
    "/metrics": ("GET",),
    "/v1/models": ("GET",),
    "/v1/completions": ("POST",),
    "/v1/chat/completions": ("POST",),
}
_FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. "
    "(When there are running or waiting requests, the operation will not be performed.)\n"
)


class Endpoints:
    """Answers whatever is not a completion; unknown paths and methods as FastAPI does."""

    def __init__(self, replica: "ServedReplica") -> None:
        self._replica = replica
        admin = {"/fault": ("POST",)} if replica.serving.admin else {}
        self._paths = {**_COMMON, **replica.dialect.paths, **admin}
        self._created = int(time.time())
        self._handlers: dict[str, Callable[[HttpRequest], Any]] = {
            "/v1/models": self._models,
            "/load": self._loads,
            "/v1/loads": self._loads,
            "/get_load": lambda request: self._loads(request)["loads"],
            "/version": lambda _: {"version": replica.profile.engine_version},
            "/get_server_info": self._server_info,
            "/server_info": self._server_info,
            "/get_model_info": self._model_info,
            "/model_info": self._model_info,
            "/tokenize": self._tokenize,
            "/v1/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
            "/v1/detokenize": self._detokenize,
            "/reset_prefix_cache": lambda _: {"success": self._flush()},
            "/fault": self._fault,
        }

    def answer(self, connection: Connection, request: HttpRequest) -> None:
        """ApiError where the engine would answer one."""
        path, methods = request.path, self._paths.get(request.path)
        if methods is None:
            connection.respond(404, b'{"detail":"Not Found"}')
        elif request.method not in methods and not (request.method == "HEAD" and "GET" in methods):
            allow = f"allow: {', '.join(methods)}\r\n"
            connection.respond(405, b'{"detail":"Method Not Allowed"}', headers=allow)
        elif path in ("/health", "/health_generate", "/ping"):
            connection.respond(503 if self._replica.draining else 200, b"")
        elif path == "/metrics":
            connection.respond(200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/flush_cache":
            connection.respond(200 if self._flush() else 400, _FLUSHED.encode(), "text/plain; charset=utf-8")
        else:
            connection.respond(200, json.dumps(self._handlers[path](request)).encode())

    def _gauges(self) -> Gauges:
        replica = self._replica
        clock, meter = replica.clock, replica.meter
        clock.catch_up()
        made = meter.made_tokens + clock.running_tokens()
        return Gauges(replica.model, replica.engine, meter, clock.own_s(), clock.now_s(), clock.open, made)

    def _metrics(self) -> bytes:
        gauges = self._gauges()
        lines = [
            *self._replica.dialect.metrics(gauges),
            *gauge("stampede:latency_seconds", "What a short request would take now.", gauges.engine.latency_s(gauges.own_s), {}),
            *histogram("stampede:chunk_lag_seconds", "Seconds between a token being due and its chunk.", gauges.meter.lag_s, {}),
        ]
        return ("\n".join(lines) + "\n").encode()

    def _models(self, request: HttpRequest) -> dict[str, Any]:
        replica = self._replica
        card = {
            "id": replica.model,
            "object": "model",
            "created": self._created,
            "owned_by": replica.dialect.owner,
            "root": replica.model,
            "parent": None,
            "max_model_len": replica.profile.context_tokens,
        }
        return {"object": "list", "data": [card]}

    def _loads(self, request: HttpRequest) -> dict[str, Any]:
        return self._replica.dialect.loads(self._gauges())

    def _server_info(self, request: HttpRequest) -> dict[str, Any]:
        replica = self._replica
        profile = replica.profile
        return {
            "model_path": replica.model,
            "served_model_name": replica.model,
            "version": profile.engine_version,
            "page_size": profile.block_tokens,
            "max_total_num_tokens": profile.kv_blocks * profile.block_tokens,
            "max_running_requests": profile.max_running,
            "context_length": profile.context_tokens,
            "dp_size": 1,
            "tp_size": 1,
            "disaggregation_mode": "null",
            "simulated": profile.to_json(),
            "internal_states": self._loads(request)["loads"],
        }

    def _model_info(self, request: HttpRequest) -> dict[str, Any]:
        model = self._replica.model
        return {"model_path": model, "tokenizer_path": model, "is_generation": True, "weight_version": "default"}

    def _tokenize(self, request: HttpRequest) -> dict[str, Any]:
        replica, body = self._replica, self._replica.read_json(request)
        tokens = replica.serving.tokens
        if "messages" in body:
            ids = tokens.encode(chat_text(body["messages"], tokens), False)
        elif isinstance(body.get("prompt"), str):
            ids = tokens.encode(body["prompt"], bool(body.get("add_special_tokens", True)))
        else:
            raise ApiError(400, "prompt: a text is required", param="prompt")
        known = {"count": len(ids), "max_model_len": replica.profile.context_tokens, "tokens": ids}
        return known if replica.dialect.name == "sglang" else {**known, "token_strs": None}

    def _detokenize(self, request: HttpRequest) -> dict[str, Any]:
        replica, ids = self._replica, self._replica.read_json(request).get("tokens")
        size = replica.serving.tokens.vocab_size
        if not isinstance(ids, list) or not all(isinstance(i, int) and 0 <= i < size for i in ids):
            raise ApiError(400, f"tokens: a list of token ids 0 … {size - 1} is required", param="tokens")
        return {"text" if replica.dialect.name == "sglang" else "prompt": replica.serving.tokens.decode(ids)}

    def _flush(self) -> bool:
        """Forget the prefix cache; False, and nothing done, while anything runs or waits."""
        engine = self._replica.engine
        if engine.running or engine.waiting:
            return False
        engine.cache.flush()
        return True

    def _fault(self, request: HttpRequest) -> dict[str, Any]:
        fault = read_fault(self._replica.read_json(request))
        if fault.kind == "kill":  # after the answer, which goes over a connection that it will close
            asyncio.get_running_loop().call_soon(self._replica.do, fault)
        else:
            self._replica.do(fault)
        return {"done": fault.kind}
