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


class Sequence:
    """A request as the engine sees it. `stage` prefill stops after the first token; decode brings its prompt's KV along.

    `path_keys`/`path_ends` is the prompt's prefix path followed by the reply, so that what was generated can be found in the
    cache by the next turn or after a preemption.
    """

    __slots__ = (
        "admitted",
        "arrived_s",
        "cached_tokens",
        "computed",
        "ended_s",
        "finish_step",
        "first_token_s",
        "generated",
        "join_step",
        "last_token_s",
        "lease",
        "max_gap_s",
        "order",
        "output_tokens",
        "path_ends",
        "path_keys",
        "prefilled_tokens",
        "prompt_tokens",
        "ready_s",
        "stage",
        "state",
        "target",
        "try_id",
    )

    def __init__(self, try_id: int, prompt: Prompt, reply_id: int, output_tokens: int, stage: Stage = "serve") -> None:
        self.try_id = try_id
        self.stage = stage
        self.prompt_tokens = prompt.tokens
        self.output_tokens = 1 if stage == "prefill" else output_tokens
        self.path_keys = (*prompt.keys, extend_key(prompt.keys[-1], reply_id))
        self.path_ends = (*prompt.ends, prompt.tokens + self.output_tokens)
        self.state = State.QUEUED
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
        self.join_step = self.finish_step = 0
        self.order = 0  # of admission to the batch
