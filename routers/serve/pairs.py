"""How a prefill and a decode replica are told of each other. It does not choose them.

vLLM (its NIXL connector's proxy, `tests/v1/kv_connector/nixl_integration/toy_proxy_server.py`): the prefill replica is asked for
one token, and its answer's `kv_transfer_params` go to the decode replica. SGLang (`sgl-router`, `mini_lb`): both get the same
body at once, with the place where they meet; a prefill that nobody fetches does not end, so waiting for it first is a deadlock.
"""

import json
import secrets
from typing import TYPE_CHECKING, Any

from routers.serve.body_end import ChunkedEnd, payload_of
from routers.serve.replica_connection import BAD, Handle
from routers.serve.replica_link import Address
from routers.serve.response_head import ResponseHead

if TYPE_CHECKING:
    from routers.serve.relay import Relay

KINDS = ("vllm", "sglang")
_MOST_BYTES = 16 << 20
_ROOM_BITS = 63
_TO_DECODE = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


def prefill_body(asked: dict[str, Any]) -> bytes:
    """One token, not streamed, its KV kept for another replica (vLLM)."""
    body = {**asked, "kv_transfer_params": _TO_DECODE, "stream": False, "max_tokens": 1}
    for name in ("max_completion_tokens", "max_output_tokens"):
        if name in body:
            body[name] = 1
    if body.get("min_tokens"):
        body["min_tokens"] = 1
    body.pop("stream_options", None)
    return json.dumps(body).encode()


def decode_body(asked: dict[str, Any], kv_transfer: object) -> bytes:
    """The request as it came, with where its KV is (vLLM)."""
    return json.dumps({**asked, "kv_transfer_params": kv_transfer}).encode()


def pair_body(asked: dict[str, Any], prefill: Address, bootstrap_port: int) -> bytes:
    """The request as it came, with where both meet (SGLang); a batch gets a room for each of its prompts."""
    rooms: int | list[int] = secrets.randbits(_ROOM_BITS)
    host: str | list[str] = prefill.host
    port: int | list[int] = prefill.bootstrap_port or bootstrap_port
    batch = _batch(asked)
    if batch is not None:
        rooms = [secrets.randbits(_ROOM_BITS) for _ in range(batch)]
        host, port = [prefill.host] * batch, [prefill.bootstrap_port or bootstrap_port] * batch
    return json.dumps({**asked, "bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": rooms}).encode()


def _batch(asked: dict[str, Any]) -> int | None:
    """How many prompts a request holds, where it holds a list of them."""
    for name in ("prompt", "text", "input_ids"):
        prompts = asked.get(name)
        if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
            return len(prompts)
    return None


class PrefillReader:
    """Reads a prefill's answer whole, for its `kv_transfer_params`."""

    __slots__ = ("_bytes", "_head", "_parts", "_refused", "_relay")

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._bytes = 0
        self._refused = False  # then its answer is the client's

    def on_head(self, head: ResponseHead) -> None:
        self._head = head
        if head.status >= 400:
            self._refused = True
            self._relay.on_head(head)
        elif head.status != 200:
            self._relay.abandon(BAD, f"HTTP {head.status} from the prefill replica")

    def on_data(self, data: bytes) -> None:
        if self._refused:
            self._relay.on_data(data)
            return
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self._relay.abandon(BAD, "a prefill's answer without end")
            return
        self._parts.append(data)

    def on_end(self) -> None:
        if self._refused:
            self._relay.on_end()
            return
        body = b"".join(self._parts)
        try:
            if self._head is not None and isinstance(self._head.body, ChunkedEnd):
                body = payload_of(body)
            transfer = json.loads(body)["kv_transfer_params"]
        except (ValueError, KeyError, TypeError, RecursionError):
            transfer = None
        if transfer is None:
            self._relay.on_broken(BAD, "the prefill replica sent no kv_transfer_params")
        else:
            self._relay.on_prefill_end(transfer)

    def on_broken(self, status: int, error: str) -> None:
        self._relay.on_broken(status, error)

    def on_moved(self, handle: Handle) -> None:
        self._relay.on_moved(handle)


class HalfReader:
    """Follows the prefill half of a pair; its bytes are nobody's."""

    __slots__ = ("_relay",)

    def __init__(self, relay: "Relay") -> None:
        self._relay = relay

    def on_head(self, head: ResponseHead) -> None:
        if head.status != 200:
            self._relay.on_half_refused(head.status)

    def on_data(self, data: bytes) -> None: ...

    def on_end(self) -> None:
        self._relay.on_half_end()

    def on_broken(self, status: int, error: str) -> None:
        self._relay.on_half_broken(status, error)

    def on_moved(self, handle: Handle) -> None:
        self._relay.on_half_moved(handle)
