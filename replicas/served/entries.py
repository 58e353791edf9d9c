"""The paths that start sequences, by name. It knows no server."""

from dataclasses import dataclass

from replicas.served.answer import Answer
from replicas.served.ask import Reader, read_chat, read_completion
from replicas.served.dialects.dialect import Dialect
from replicas.served.generate import GenerateAnswer, read_generate


@dataclass(frozen=True, slots=True)
class Entry:
    """How a body is read, what answers it, what ids begin with."""

    read: Reader
    answer: type[Answer]
    prefix: str


_COMMON = {
    "/v1/completions": Entry(read_completion, Answer, "cmpl-"),
    "/v1/chat/completions": Entry(read_chat, Answer, "chatcmpl-"),
}
_OWN = {"/generate": Entry(read_generate, GenerateAnswer, "")}


def entries_of(dialect: Dialect) -> dict[str, Entry]:
    """All engines', and those of its own that a dialect's engine has."""
    return _COMMON | {path: entry for path, entry in _OWN.items() if path in dialect.paths}
