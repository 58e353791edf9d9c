"""Where live cells run: the pool, the model, how senders write prompts. None of it is part of a cell's identity."""

from dataclasses import dataclass

from replay.send.spec import IDS, IGNORE_EOS, VOCABULARY_SIZE
from replicas.launch.pool import Pool


@dataclass(frozen=True, slots=True)
class Place:
    """A running pool, in replica-id order, and how it is sent to.

    `router_command` starts our router when its options follow (`… serve router`). Prompts are token ids below
    `vocabulary_size` (or of the `tokenizer`'s vocabulary), or text of the tokenizer's words; a gateway that refuses ids gets
    text. `length`: see `SendSpec`. `cores`: one for each sender to keep to, in turn; empty = any. A p99 of the send lag or the
    read lag above `lag_limit_s` makes a cell void. Gauges are read every `scrape_s`. A replica has `ready_s` to come back.
    """

    pool: Pool
    model: str
    router_command: tuple[str, ...]
    senders: int = 1
    prompt: str = IDS
    tokenizer: str = ""
    vocabulary_size: int = VOCABULARY_SIZE
    length: str = IGNORE_EOS
    cores: tuple[int, ...] = ()
    lag_limit_s: float = 0.05  # as in the reports' certificate of live runs
    scrape_s: float = 1.0
    ready_s: float = 300.0
