"""The rows a replay writes: what happened, never what it means. Times are integer microseconds from the run's start."""

from dataclasses import dataclass


@dataclass(slots=True)
class Attempt:
    """One try at a replica, or a client attempt that never reached one (`replica_id` None).

    `attempt` numbers a request's rows from 1; `client_attempt` and `router_try` tell the two retry loops apart
    (`router_try` 0: never sent; None: an opaque gateway in between). `scheduled_us` is when this client attempt was due.
    `ended_us` is the client's end,
    `engine_ended_us` the engine's (later for orphaned work). `prefilled_tokens` and `decoded_tokens` is the work the engine
    did for it, wasted or not. `outcome`: ok, timeout, refused, error, abandoned, censored. A turn that was never sent because
    its session quit is a row with attempt 0, outcome abandoned and no times. `client_attempt` 0 means never started: such a
    turn, a request that waited for its next attempt when the run ended (outcome censored, `scheduled_us` = when it was due), or
    an attempt that was between two router tries when its client gave up (timeout) or the run ended (censored). An attempt that
    was sent after its client gave up keeps one row: its `sent_us` is later than its `ended_us`.
    """

    request_id: int
    attempt: int
    client_attempt: int
    router_try: int | None
    replica_id: int | None
    prefill_id: int | None
    scheduled_us: int | None
    sent_us: int | None
    first_token_us: int | None
    ended_us: int | None
    engine_ended_us: int | None
    max_gap_us: int | None
    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int
    decoded_tokens: int
    output_tokens: int
    outcome: str
    status: int
    error: str


class OpenAttempt(Attempt):
    """A row while it may still be written: `held` counts who may (the ledger for its client, an engine for its try)."""

    __slots__ = ("held",)

    def __init__(
        self,
        request_id: int,
        attempt: int,
        client_attempt: int,
        prompt_tokens: int,
        scheduled_us: int | None = None,
        sent_us: int | None = None,
        router_try: int | None = 0,
        replica_id: int | None = None,
        prefill_id: int | None = None,
    ) -> None:
        self.request_id = request_id
        self.attempt = attempt
        self.client_attempt = client_attempt
        self.prompt_tokens = prompt_tokens
        self.scheduled_us = scheduled_us
        self.sent_us = sent_us
        self.router_try = router_try
        self.replica_id = replica_id
        self.prefill_id = prefill_id
        self.first_token_us = self.ended_us = self.engine_ended_us = self.max_gap_us = None
        self.cached_tokens = self.prefilled_tokens = self.decoded_tokens = self.output_tokens = self.status = 0
        self.outcome = "censored"
        self.error = ""
        self.held = 0


@dataclass(slots=True)
class ReplicaSample:
    """One replica's gauges at one second; counters (`prefix_*`, `preemptions`) run from the start of the cell. Real
    engines tell no queue age."""

    t_us: int
    replica_id: int
    running: int
    waiting: int
    kv_used: float
    prefix_hit_tokens: int
    prefix_query_tokens: int
    preemptions: int
    queue_age_us: int | None


@dataclass(slots=True)
class DecisionRow:
    """One choice of the router, and what it saw."""

    t_us: int
    request_id: int
    client_attempt: int
    router_try: int
    replica_id: int
    prefill_id: int | None
    reason: str
    scores: list[float]
    in_flight: list[int]
