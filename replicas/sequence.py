"""One request inside an engine: what it needs, how far it is, and when things happened to it."""

from enum import IntEnum
from typing import Literal

from replicas.prefix_cache import Lease
from workloads.request import Prompt, extend_key

Stage = Literal["serve", "prefill", "decode"]
Path = tuple[tuple[int, ...], tuple[int, ...]]


class State(IntEnum):
    """Where a sequence is in its life."""

    QUEUED = 0
    PREFILL = 1
    DECODE = 2
    FINISHED = 3
    CANCELLED = 4
    REFUSED = 5
    DROPPED = 6


# Python 3.11 takes 75 ns to find a member in its enum: hot paths use these.
QUEUED, PREFILL, DECODE, FINISHED, CANCELLED, REFUSED, DROPPED = State


class Sequence:
    """A request as the engine sees it. `stage` prefill stops after the first token; decode brings its prompt's KV along.

    `output_tokens` is the truth, which no scheduler knows; `max_tokens` is what the client asked for at most (by default the
    truth, as with forced lengths). A lower `priority` is served first where the policy is by priority. `status` is the HTTP
    status that a dropped one ends with. `reply_id` names the content of the reply.
    """

    __slots__ = (
        "admitted",
        "arrived_s",
        "cached_tokens",
        "computed",
        "ended_s",
        "finish_step",
        "first_token_s",
        "gap_step",
        "generated",
        "join_step",
        "last_token_s",
        "lease",
        "max_gap_s",
        "max_tokens",
        "order",
        "output_tokens",
        "prefilled_tokens",
        "priority",
        "prompt",
        "prompt_tokens",
        "ready_s",
        "reply_id",
        "stage",
        "state",
        "status",
        "target",
        "try_id",
    )

    # Set where they come to mean something: on arrival, …
    arrived_s: float
    ready_s: float
    # … on admission to the batch, …
    order: int
    computed: int
    # … and with a token
    last_token_s: float
    join_step: int
    gap_step: int
    finish_step: int

    def __init__(
        self,
        try_id: int,
        prompt: Prompt,
        reply_id: int,
        output_tokens: int,
        stage: Stage = "serve",
        max_tokens: int | None = None,
        priority: int = 0,
    ) -> None:
        prompt_tokens = prompt.tokens
        if stage == "prefill":
            output_tokens = max_tokens = 1
        elif max_tokens is None:
            max_tokens = output_tokens
        elif output_tokens > max_tokens:
            output_tokens = max_tokens
        self.try_id = try_id
        self.stage = stage
        self.priority = priority
        self.prompt = prompt
        self.reply_id = reply_id
        self.prompt_tokens = self.target = prompt_tokens  # `target`: must be computed before the next token comes out
        self.max_tokens = max_tokens
        self.output_tokens = output_tokens
        self.state = QUEUED
        self.status = 200
        self.generated = self.cached_tokens = self.prefilled_tokens = 0
        self.admitted = False
        self.lease: Lease | None = None
        self.max_gap_s = 0.0
        self.first_token_s: float | None = None
        self.ended_s: float | None = None

    def clamp(self, tokens: int) -> None:
        """Put out `tokens` tokens at most."""
        self.max_tokens = min(self.max_tokens, tokens)
        self.output_tokens = min(self.output_tokens, tokens)

    @property
    def reply_key(self) -> int:
        """The prefix key of the prompt followed by the reply."""
        return extend_key(self.prompt.keys[-1], self.reply_id)

    def whole_path(self) -> Path:
        """The prefix path (keys, ends) of the prompt followed by the reply, so that what was generated can be found in the cache
        by the next turn or after a preemption."""
        keys, ends = self.prompt
        return (*keys, self.reply_key), (*ends, ends[-1] + self.output_tokens)

    def path(self) -> Path:
        """The prefix path of what must be computed: the prompt, and after a preemption what was generated."""
        if self.generated:
            keys, ends = self.whole_path()
            return keys, (*ends[:-1], self.target)
        return self.prompt
