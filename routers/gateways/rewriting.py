"""What a gateway does to a request on its way: fields added, dropped, renamed, changed. It knows no engine."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from routers.gateways.ask import ask_once
from routers.gateways.gateway import Gateway
from routers.gateways.running import Setting, running
from routers.gateways.stub import StubReplica
from routers.gateways.stub_answers import MODEL

_SAMPLING: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "stop": ["END"],
    "ignore_eos": True,
    "min_tokens": 4,
    "n": 1,
    "priority": 1,
    "user": "u1",
    "cache_salt": "salt",
    "return_token_ids": True,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
_MESSAGES = [{"role": "user", "content": "one"}]
_GENERATE: dict[str, Any] = {
    "input_ids": [11, 12, 13],
    "sampling_params": {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0.5},
    "stream": True,
    "return_logprob": False,
    "rid": "r1",
}

# Every field that replaying a trace sends, or that a reader needs back, by (path, form).
BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "completion, text": ("/v1/completions", {"model": MODEL, "prompt": "one two", "max_tokens": 4, **_SAMPLING}),
    "completion, token ids": ("/v1/completions", {"model": MODEL, "prompt": [11, 12, 13], "max_tokens": 4, **_SAMPLING}),
    "chat": ("/v1/chat/completions", {"model": MODEL, "messages": _MESSAGES, "max_tokens": 4, **_SAMPLING}),
    "generate, token ids": ("/generate", _GENERATE),
}
_HEADERS = {"authorization": "Bearer k", "x-request-id": "r1", "x-session-id": "s1", "x-smg-routing-key": "s1"}
_OF_THE_HOP = {"host", "content-length", "content-type", "connection", "accept", "accept-encoding", "user-agent"}


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One row: where ("body", "header" or "answer"), the field (nested ones with dots), what became of it, as JSON texts.

    `change`: added, dropped, renamed (`received`: the new name), changed, refused (`received`: the HTTP status; nothing came).
    """

    gateway: str
    version: str
    form: str
    where: str
    field: str
    change: str
    sent: str
    received: str


async def find_rewriting(gateway: Gateway, folder: Path, policy: str | None = None) -> list[Rewriting]:
    """Sends every form of a trace's request through the gateway to a stub and compares; no row = nothing was touched.

    Raises what GatewayProcess raises.
    """
    rows: list[Rewriting] = []
    async with running(gateway, Setting(policy or gateway.policies[0], replicas=1), folder) as (process, (stub,)):
        for form, (path, body) in BODIES.items():
            for where, field, change, sent, received in await _through(process.url, stub, path, body):
                rows.append(Rewriting(gateway.name, process.version, form, where, field, change, sent, received))
    return rows


def rewriting_of(gateway: Gateway, folder: Path, policy: str | None = None) -> list[Rewriting]:
    """`find_rewriting` for callers without an event loop."""
    return asyncio.run(find_rewriting(gateway, folder, policy))


Change = tuple[str, str, str, str, str]


async def _through(url: str, stub: StubReplica, path: str, body: dict[str, Any]) -> list[Change]:
    stub.asked.clear()
    direct = await ask_once(stub.url, path, body, _HEADERS)
    answer = await ask_once(url, path, body, _HEADERS)
    if len(stub.asked) != 2:
        return [("body", "", "refused", "", str(answer.status))]
    straight, got = stub.asked
    changes = [("body", *change) for change in compared(body, got.json)]
    changes += [("header", *change) for change in compared(_kept(straight.headers), _kept(got.headers))]
    if answer.body != direct.body:
        changes.append(("answer", "", "changed", f"{len(direct.body)} bytes", f"{len(answer.body)} bytes"))
    return changes


def compared(sent: Mapping[str, Any], received: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(field, change, sent, received) for every difference; a value that vanished and turned up under a new name was renamed."""
    gone = [name for name in sent if name not in received]
    new = [name for name in received if name not in sent]
    for name in gone:
        heir = next((other for other in new if _alike(name, sent[name], other, received[other])), None)
        if heir is not None:
            new.remove(heir)
            yield prefix + name, "renamed", json.dumps(sent[name]), heir
        else:
            yield prefix + name, "dropped", json.dumps(sent[name]), ""
    for name in new:
        yield prefix + name, "added", "", json.dumps(received[name])
    for name in sent:
        if name in received and sent[name] != received[name]:
            if isinstance(sent[name], dict) and isinstance(received[name], dict):
                yield from compared(sent[name], received[name], f"{prefix}{name}.")
            else:
                yield prefix + name, "changed", json.dumps(sent[name]), json.dumps(received[name])


def _alike(name: str, value: object, other: str, other_value: object) -> bool:
    """Equal values under names that share a word: true and 1 are common, so the value alone proves nothing."""
    return type(value) is type(other_value) and value == other_value and bool(set(name.split("_")) & set(other.split("_")))


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _OF_THE_HOP}
