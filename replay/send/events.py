"""Reads a completion's server-sent events as they come: how many carry tokens, and how it ended. It does not know when.

An event of the common kind is recognised by its bytes and not decoded, which would cost most of a sender's time. That is safe:
inside a JSON string every quote is behind a backslash, so `"name":` with plain quotes can only be a key. Whatever looks different
is decoded.
"""

import json
from typing import Any

_DONE, _IDS = b"[DONE]", b'"token_ids":['


class BadEvent(Exception):
    """An event is not what an engine sends."""


class Events:
    """`chunks` counts the events that carried tokens (each may carry several); `usage` is the engine's own count.

    `keeps` "ids" or "text": what was said is kept, for `token_ids` or `text`. `error` is the message of an error event,
    `error_code` its code.
    """

    __slots__ = ("_ids", "_keeps", "_rest", "_texts", "chunks", "done", "error", "error_code", "finish_reason", "usage")

    def __init__(self, keeps: str = "") -> None:
        self._keeps = keeps
        self._ids: list[bytes] = []  # as written: numbers and commas
        self._texts: list[str] = []
        self._rest = b""
        self.chunks = self.error_code = 0
        self.done = False
        self.error = self.finish_reason = ""
        self.usage: dict[str, Any] = {}

    def feed(self, piece: bytes) -> None:
        """Take in some of the body; raises BadEvent."""
        lines = (self._rest + piece if self._rest else piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data:"):
                self._take(line)

    def token_ids(self) -> list[int]:
        """Ids of all tokens that came, where the engine returns ids."""
        return [int(i) for ids in self._ids for i in ids.split(b",")]

    def text(self) -> str:
        return "".join(self._texts)

    # Inside ------------------------------------------------------------------------------------------------------------

    def _take(self, line: bytes) -> None:
        common = (
            b'"finish_reason":null' in line
            and b'"text":""' not in line
            and b'"content":' not in line
            and (b'"usage":' not in line or b'"usage":null' in line)
            and b'"error":' not in line
            and (not self._keeps or self._keep_ids(line))
        )
        if common:
            self.chunks += 1
        elif line[5:].strip() == _DONE:
            self.done = True
        else:
            self._decode(line)

    def _keep_ids(self, line: bytes) -> bool:
        """Keep the ids of a common event; False where it must be decoded for what is wanted."""
        start = line.find(_IDS)
        if self._keeps != "ids" or start < 0 or line.find(_IDS, start + 1) > 0:
            return False
        start += len(_IDS)
        ids = line[start : line.find(b"]", start)]
        if ids:
            self._ids.append(ids)
        return True

    def _decode(self, line: bytes) -> None:
        event = _decoded(line)
        if "error" in event:
            self._note_error(event["error"])
        usage = event.get("usage")
        if isinstance(usage, dict):
            self.usage = usage
        for choice in event.get("choices") or ():
            if not isinstance(choice, dict):
                raise BadEvent(f"a choice is not an object: {line[:100]!r}")
            reason = choice.get("finish_reason")
            self.finish_reason = reason or self.finish_reason
            delta = choice.get("delta") or {}
            if self._keeps == "ids" and choice.get("token_ids"):
                self._ids.append(b",".join([b"%d" % i for i in choice["token_ids"]]))
            elif self._keeps:
                self._texts.append(choice.get("text") or "")
            said = choice.get("text") or choice.get("token_ids") or delta.get("content") or delta.get("reasoning_content")
            # a completion's "" without an end is a token whose letters are not whole yet; a chat's is its opening
            self.chunks += bool(said) or ("text" in choice and reason is None)

    def _note_error(self, error: Any) -> None:
        code, message = 500, error
        if isinstance(error, dict):
            message = error.get("message", error)
            given = error.get("code")
            code = int(str(given)) if str(given).isdigit() else 500
        self.error, self.error_code = str(message) or "no message", code


def _decoded(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line[5:])
    except ValueError as error:
        raise BadEvent(f"not JSON: {line[:100]!r}") from error
    if not isinstance(event, dict):
        raise BadEvent(f"not an object: {line[:100]!r}")
    return event
