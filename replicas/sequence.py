"""One request inside an engine: what it needs, how far it is, and when things happened to it."""

from enum import IntEnum
from typing import Literal

from replicas.prefix_cache import Lease
from workloads.request import Prompt, extend_key

Stage = Literal["serve", "prefill", "decode"]


class State(IntEnum):
    """Where a sequence is in its life."""

    QUEUED = 0
    PREFILL = 1
    DECODE = 2
    FINISHED = 3
    CANCELLED = 4
    REFUSED = 5
    DROPPED = 6


class Sequence:
    """A request as the engine sees it. `stage` prefill stops after the first token; decode brings its prompt's KV along.

    `output_tokens` is the truth, which no scheduler knows; `max_tokens` is what the client asked for at most (by default the
    truth, as with forced lengths). A lower `priority` is served first where the policy is by priority. `status` is the HTTP
    status that a dropped one ends with. `path_keys`/`path_ends` is the prompt's prefix path followed by the reply, so that what
    was generated can be found in the cache by the next turn or after a preemption.
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
        "path_ends",
        "path_keys",
        "prefilled_tokens",
        "priority",
        "prompt",
        "prompt_tokens",
        "ready_s",
        "stage",
        "state",
        "status",
        "target",
        "try_id",
    )

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
        self.try_id = try_id
        self.stage = stage
        self.priority = priority
        self.prompt = prompt
        self.prompt_tokens = prompt.tokens
        if stage == "prefill":
            output_tokens = max_tokens = 1
        self.max_tokens = output_tokens if max_tokens is None else max_tokens
        self.output_tokens = output_tokens if output_tokens <= self.max_tokens else self.max_tokens
        self.path_keys = (*prompt.keys, extend_key(prompt.keys[-1], reply_id))
        self.path_ends = (*prompt.ends, prompt.tokens + self.output_tokens)
        self.state = State.QUEUED
        self.status = 200
        self.target = prompt.tokens  # tokens that must be computed before the next token comes out
        self.computed = 0
        self.generated = 0
        self.cached_tokens = 0
        self.prefilled_tokens = 0
        self.admitted = False
        self.lease: Lease | None = None
        self.arrived_s = self.ready_s = 0.0
        self.first_token_s: float | None = None
        self.last_token_s = 0.0
        self.max_gap_s = 0.0
        self.ended_s: float | None = None
        self.join_step = self.finish_step = self.gap_step = 0
        self.order = 0  # of admission to the batch

    def clamp(self, tokens: int) -> None:
        """Put out `tokens` tokens at most."""
        self.max_tokens = min(self.max_tokens, tokens)
        if self.output_tokens > tokens:
            self.output_tokens = tokens
            self.path_ends = (*self.path_ends[:-1], self.prompt_tokens + tokens)

    def path(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The prefix path (keys, ends) of what must be computed: the prompt, and after a preemption what was generated."""
        if self.generated:
            return self.path_keys, (*self.path_ends[:-1], self.target)
        return self.prompt.keys, self.prompt.ends
