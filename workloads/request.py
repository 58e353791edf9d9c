"""What is sent: segments, prompts and requests. It does not know who serves them."""

from dataclasses import dataclass
from typing import NamedTuple

_MASK = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of prompt tokens that always appears whole.

    `content_id` names the content: equal ids are equal tokens everywhere (simulator, router index, real engine).
    """

    content_id: int
    tokens: int


class Prompt(NamedTuple):
    """A prompt as its prefix path.

    `keys[i]` identifies the *whole prefix* up to and including segment i; `ends[i]` is that prefix's length in tokens.
    Two prompts share a prefix exactly as far as their keys are equal.
    """

    keys: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.ends[-1] if self.ends else 0

    @staticmethod
    def of(segments: tuple[Segment, ...]) -> "Prompt":
        keys: list[int] = []
        ends: list[int] = []
        key = end = 0
        for segment in segments:
            key = extend_key(key, segment.content_id)
            end += segment.tokens
            keys.append(key)
            ends.append(end)
        return Prompt(tuple(keys), tuple(ends))


def extend_key(prefix_key: int, content_id: int) -> int:
    """The key of the prefix `prefix_key` followed by `content_id` (63 bits, the same on every machine)."""
    x = (prefix_key ^ (content_id & _MASK)) * 0x2545F4914F6CDD1D + 0x9E3779B97F4A7C15
    return (x ^ (x >> 29)) & _MASK


@dataclass(frozen=True, slots=True)
class Request:
    """One turn of one session.

    First turns carry `arrival_s` (from the run's start); later turns carry `think_s`, counted from the end of the
    previous turn. `segments` is the whole prompt, history included; `reply_id` names the answer's content, so the next
    turn's prompt can contain it. `deadline_s` is relative to the scheduled time. `output_tokens` is the trace's truth.
    """

    request_id: int
    session_id: int
    turn: int
    arrival_s: float | None
    think_s: float | None
    segments: tuple[Segment, ...]
    reply_id: int
    output_tokens: int
    tenant: int
    deadline_s: float | None = None

    @property
    def prompt_tokens(self) -> int:
        return sum(s.tokens for s in self.segments)
