"""What one sender process is told: a JSON file with its share of one cell, the targets and the shared epoch. It sends nothing."""

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from replay.cell import Cell

DIRECT, ROUTER = "replicas", "router"
IDS, TEXT = "ids", "text"
IGNORE_EOS, MIN_TOKENS, FREE = "ignore_eos", "min_tokens", "free"
VOCABULARY_SIZE = 32_000  # no model of today has fewer ids
_HEADER = re.compile("[A-Za-z0-9-]+")
_OWN_FIELDS = ("model", "prompt", "max_tokens", "stream", "stream_options", "ignore_eos", "min_tokens", "return_token_ids")


@dataclass(frozen=True, slots=True)
class SendSpec:
    """Everything that decides what one sender does.

    `sender` of `senders` takes the sessions with session_id mod senders = sender. `epoch_s` is time 0 on this host's
    CLOCK_MONOTONIC (the same for all its processes); None: a line on stdin brings it. `urls`: with `target` replicas (the direct
    arm) one a replica, send by send in turn; with `target` router a single one (ours tells replica and try in headers,
    others are opaque). `prompt`: token ids below `vocabulary_size` (or those of the
    `tokenizer` file's vocabulary), or text of the tokenizer's stable words. `body`: further JSON fields of every request.
    `length`: ask for exactly the planned output, by `ignore_eos` or by `min_tokens` (SGLang reserves the whole output of a
    request that ignores its end, so it never retracts), and take another count for an error; or let the model stop (`free`).
    `api_key_env`: the environment variable that holds the key. `core`: the processor to keep to. Bodies are made at most
    `ahead_s` and `ahead_bytes` before they are due. A p99 of the send lag or the read lag above
    `lag_limit_s` makes the run void.
    `session_header` names a request's session to the target, for affinity.
    `events_elsewhere`: whoever starts the sender does to the pool what the workload's events say.
    """

    cell: Cell
    urls: tuple[str, ...]
    out: str
    target: str = DIRECT
    sender: int = 0
    senders: int = 1
    epoch_s: float | None = None
    model: str = ""
    endpoint: str = "/v1/completions"
    prompt: str = IDS
    vocabulary_size: int = VOCABULARY_SIZE
    tokenizer: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    length: str = IGNORE_EOS
    api_key_env: str = ""
    core: int | None = None
    keep_alive_s: float = 4.0  # uvicorn closes a connection that was idle for 5 s
    ahead_s: float = 2.0
    ahead_bytes: int = 64 << 20
    lag_limit_s: float = 0.1  # as in the reports' certificate
    events_elsewhere: bool = False
    session_header: str = "x-session-id"

    def __post_init__(self) -> None:
        _check("target", self.target, self.target in (DIRECT, ROUTER), f"{DIRECT} or {ROUTER}")
        _check("urls", list(self.urls), bool(self.urls), "at least one")
        one = self.target == DIRECT or len(self.urls) == 1
        _check("urls", list(self.urls), one, f"exactly one with target: {ROUTER}")
        _check("sender", self.sender, 0 <= self.sender < self.senders, f"0 … senders − 1 = {self.senders - 1}")
        _check("length", self.length, self.length in (IGNORE_EOS, MIN_TOKENS, FREE), f"{IGNORE_EOS}, {MIN_TOKENS} or {FREE}")
        _check("prompt", self.prompt, self.prompt in (IDS, TEXT), f"{IDS} or {TEXT}")
        _check("tokenizer", self.tokenizer, self.prompt == IDS or bool(self.tokenizer), f"a file or folder with prompt: {TEXT}")
        _check("endpoint", self.endpoint, self.endpoint == "/v1/completions", "/v1/completions (chats are not sent yet)")
        _check("session_header", self.session_header, bool(_HEADER.fullmatch(self.session_header)), "a header's name")
        ours = [name for name in self.body if name in _OWN_FIELDS]
        _check("body", ours, not ours, "any field that the sender does not write itself")
        for name in ("keep_alive_s", "ahead_s", "ahead_bytes", "lag_limit_s"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "more than 0")

    @property
    def part(self) -> Path:
        """The folder that this sender writes."""
        return Path(self.out) / f"sender-{self.sender}"

    def api_key(self) -> str:
        """The key from the environment, "" where none is asked for; ValueError when the variable is not set."""
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "")
        _check("api_key_env", self.api_key_env, bool(key), "a variable that is set and not empty")
        _check("api_key_env", self.api_key_env, key.isascii() and key.isprintable(), "a key of printable ASCII")
        return key

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> "SendSpec":
        """Raises ValueError that names the key for what is no specification."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("a sender's specification must be a JSON object")
        unknown = sorted(set(data) - {f.name for f in fields(SendSpec)})
        missing = [name for name in ("cell", "urls", "out") if name not in data]
        _check("keys", unknown, not unknown, ", ".join(f.name for f in fields(SendSpec)))
        _check("keys", sorted(data), not missing, f"{', '.join(missing)} besides")
        _check("urls", data["urls"], isinstance(data["urls"], list), "a list")
        return SendSpec(**{**data, "cell": Cell.from_json(json.dumps(data["cell"])), "urls": tuple(data["urls"])})


def _check(key: str, value: object, good: bool, allowed: str) -> None:
    if not good:
        raise ValueError(f"{key}: {value!r}; allowed: {allowed}")
