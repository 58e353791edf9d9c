"""The guards by name: a new guard is its file and one line here."""

from collections.abc import Callable

from routers.guard import Guard, GuardContext
from routers.guards.breaker import BreakerGuard
from routers.guards.pool_queue import PoolQueueGuard
from routers.guards.replica_queue import ReplicaQueueGuard
from routers.guards.retry import RetryGuard

GUARDS: dict[str, type[Guard]] = {
    "retry": RetryGuard,
    "queue": PoolQueueGuard,
    "replica_queue": ReplicaQueueGuard,
    "breaker": BreakerGuard,
}


def build_guard(name: str, context: GuardContext) -> Guard:
    """The guard called `name`; raises ValueError for an unknown name or parameter, listing what is allowed."""
    if name not in GUARDS:
        raise ValueError(f"unknown guard {name!r}; allowed: {', '.join(sorted(GUARDS))}")
    build: Callable[[GuardContext], Guard] = GUARDS[name]
    return build(context)
