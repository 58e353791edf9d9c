"""`concurrency`: at most so many tries at each replica and in the pool, what is too much is refused. It measures nothing."""

from dataclasses import dataclass

from routers.guard import GuardContext
from routers.limits.limit_guard import NO_LIMIT, LimitGuard
from routers.parameters import settings_of, within


@dataclass(frozen=True, slots=True)
class ConcurrencySettings:
    """`per_replica` and `pool`: the most tries under way at once, null = no limit. 64 and 429 are ours."""

    per_replica: int | None = 64
    pool: int | None = None
    status: int = 429

    def __post_init__(self) -> None:
        within("per_replica", self.per_replica, 1)
        within("pool", self.pool, 1)
        within("status", self.status, 400, 599)


class ConcurrencyGuard(LimitGuard):
    """The fixed limit that gateways call max connections or max concurrent requests (HAProxy `maxconn`, Envoy `max_requests`).

    Known weakness: the right number moves with prompt and output lengths, and nobody tells it.
    """

    def __init__(self, context: GuardContext) -> None:
        settings = settings_of(ConcurrencySettings, context.parameters, "concurrency")
        super().__init__(settings.status, NO_LIMIT if settings.per_replica is None else settings.per_replica)
        self._pool = NO_LIMIT if settings.pool is None else settings.pool

    def limit_of_pool(self, now_s: float) -> float:
        return self._pool
