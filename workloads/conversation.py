"""A trace's content: conversations, turns and where they came from. It does not know when anything will be sent, or to whom."""

from dataclasses import dataclass
from functools import cached_property
from typing import TypedDict

from workloads.request import Segment


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer.

    `segments` is the content of the *new* user message (Σ tokens = `user_tokens`); None when only its length is known, and
    the content then counts as unique. `think_s` is the time from the previous answer's end; None = unknown or first turn.
    """

    user_tokens: int
    reply_tokens: int
    segments: tuple[Segment, ...] | None = None
    think_s: float | None = None
    user_text: str | None = None
    reply_text: str | None = None

    def __post_init__(self) -> None:
        if self.user_tokens < 0 or self.reply_tokens < 0:
            raise ValueError(f"a turn has no negative tokens: user {self.user_tokens}, reply {self.reply_tokens}")
        if self.segments is not None and sum(s.tokens for s in self.segments) != self.user_tokens:
            raise ValueError(f"segments hold {sum(s.tokens for s in self.segments)} tokens, the user turn {self.user_tokens}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """One session: turns in order, behind a `prefix` (system prompt) that other conversations may share.

    `start_s` counts from the trace's first event; None when the trace has no clock. `tenant` 0 when it names no tenant.
    """

    conversation_id: str
    turns: tuple[Turn, ...]
    tenant: int = 0
    prefix: tuple[Segment, ...] = ()
    start_s: float | None = None
    prefix_text: str | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"conversation {self.conversation_id!r} has no turn")


class Provenance(TypedDict):
    """Where a trace comes from and what was done to it; shown in the report as it stands (JSON only).

    `sha256` is the source file's, or the content's for a generated trace. `rows_*` count the source's own rows (records).
    `token_counts` is "exact" or "estimated: how".
    """

    source: str
    licence: str
    citation: str
    file: str
    sha256: str
    rows_read: int
    rows_dropped: dict[str, int]
    rows_changed: dict[str, int]
    token_counts: str
    synthetic: bool
    has_timestamps: bool
    has_sessions: bool
    notes: list[str]


@dataclass(frozen=True)
class Trace:
    """Conversations in the order of the source (of `start_s` where it has timestamps)."""

    source: str
    conversations: tuple[Conversation, ...]
    provenance: Provenance

    @cached_property
    def has_timestamps(self) -> bool:
        return bool(self.conversations) and all(c.start_s is not None for c in self.conversations)

    @cached_property
    def turn_count(self) -> int:
        return sum(len(c.turns) for c in self.conversations)
