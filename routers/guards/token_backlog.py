"""`token_backlog`: at most so many prompt tokens that wait for their first token. It does not know what is cached."""

from dataclasses import dataclass

from routers.guard import GuardContext
from routers.limits.limit_guard import NO_LIMIT, LimitGuard
from routers.parameters import settings_of, within
from routers.policy import RoutedRequest


@dataclass(frozen=True, slots=True)
class TokenBacklogSettings:
    """Prompt tokens in their prefill phase, at each replica and in the pool; null = no limit.

    `ttft_s` sets `per_replica` to what the pool's engine prefills in that time, as vLLM advises: target TTFT × prefill
    throughput. 32,768 is ours (vLLM: no limit); 503 is vLLM's.
    """

    per_replica: int | None = 32_768
    pool: int | None = None
    ttft_s: float | None = None
    status: int = 503

    def __post_init__(self) -> None:
        within("per_replica", self.per_replica, 1)
        within("pool", self.pool, 1)
        within("ttft_s", self.ttft_s, 0.001)
        within("status", self.status, 400, 599)


class TokenBacklogGuard(LimitGuard):
    """vLLM's `--max-num-queued-tokens` (vllm#49445) at the router, for each replica and for the pool.

    A prompt counts in full from when it is sent until its first token, or its end. What has reached its limit takes no more: so
    the last prompt may overshoot, and one longer than the limit still finds an empty replica. Known weaknesses: cached tokens
    count like new ones, and a replica that only decodes for a pair counts its prompts until the first token too.
    """

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(TokenBacklogSettings, context.parameters, "token_backlog")
        self._pool = NO_LIMIT if settings.pool is None else settings.pool
        per_replica = NO_LIMIT if settings.per_replica is None else settings.per_replica
        if settings.ttft_s is not None:
            if context.profile is None:
                raise ValueError(f"token_backlog: ttft_s = {settings.ttft_s!r} needs the engine's profile, and there is none")
            per_replica = max(1, int(settings.ttft_s / context.profile.step.prefill_s))
        super().__init__(settings.status, per_replica)

    def limit_of_pool(self, now_s: float) -> float:
        return self._pool

    def weight_of(self, request: RoutedRequest) -> int:
        return max(1, request.prompt.tokens)

    def on_first_token(self, request: RoutedRequest, replica_id: int, now_s: float) -> None:
        self._places.end(request.rid, replica_id)
