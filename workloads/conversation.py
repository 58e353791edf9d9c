"""A trace's content, row by row: conversations, turns and where they came from. It does not know when anything will be sent."""

from dataclasses import dataclass
from typing import NotRequired, TypedDict

from workloads.request import Segment


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer.

    `segments` is the content of the *new* user message (Σ tokens = `user_tokens`); None when only its length is known, and
    the content then counts as unique. `think_s` is the time from the previous answer's end, `gap_s` from the previous turn's
    own start; None = unknown or first turn. `restarts`: the prompt is this turn's content alone, nothing of prefix or history
    stands in front of it (traces that list every prompt whole, a context that was compacted).
    """

    user_tokens: int
    reply_tokens: int
    segments: tuple[Segment, ...] | None = None
    think_s: float | None = None
    gap_s: float | None = None
    restarts: bool = False
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

    `start_s` is the first turn's time on the source's own clock (Unix seconds where it has dates); None when the trace has no
    clock. A loaded trace counts it from the trace's first event. `tenant` 0 when it names no tenant.
    """

    conversation_id: str
    turns: tuple[Turn, ...]
    tenant: int = 0
    prefix: tuple[Segment, ...] = ()
    start_s: float | None = None
    language: str | None = None
    model: str | None = None
    prefix_text: str | None = None

    def __post_init__(self) -> None:
        if not self.turns:
            raise ValueError(f"conversation {self.conversation_id!r} has no turn")


class Provenance(TypedDict):
    """Where a trace comes from and what was done to it; shown in the report as it stands (JSON only).

    `sha256` is the source file's, or the content's for a generated trace. `rows_*` count the source's own rows (records).
    `token_counts` is "exact" or "estimated: how". `first_start_us` is the first event on the source's own clock.
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
    first_start_us: NotRequired[int]
