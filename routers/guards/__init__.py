"""The guards by name, and what their order means: a new guard is its file and one line here.

A study lists guards from the client's side to the policy's. A guard does one or more of five things, and order means
something else for each:

- *Admission* (`on_request`: client_throttle, queue, replica_queue, gateway_queue, concurrency, adaptive_concurrency,
  token_backlog, slo_shed) is asked in order, and what is held goes on at the next one. So `queue, slo_shed` judges a request
  when its turn comes, `slo_shed, queue` when it arrives, without seeing how long the queue is.
- *Hiding* (`admits`: breaker, ejection, replica_queue and all limits) has no order: the policy is shown what all admit, and
  each guard is shown what all *others* admit. So a `replica_queue` *before* a limit holds while that limit hides all; *behind*
  it, the limit has refused already. Behind or before a breaker it waits for it all the same.
- *Ends* (`on_end`) are told to all, wherever they stand: a breaker counts every try, those that are retried too.
- *Retries* (retry) pass the guards *after* retry again. What stands after it is asked anew for every retry, and gives its
  place back during the backoff (`retry, concurrency`); what stands before it is asked once a request, and keeps its place
  (`queue, retry`). With `concurrency, retry` a retry is not asked, and is answered 503 where all is full.
- *Giving up* (timeout) has no order: to all guards a try that was given up has ended.

Usual: `client_throttle, slo_shed, queue, retry, ejection, breaker, replica_queue, token_backlog, concurrency,
timeout`. Limits belong below what the engines refuse at: else a breaker opens on their 503s, and a queue waits for it.
"""

from collections.abc import Callable

from routers.guard import Guard, GuardContext
from routers.guards.adaptive_concurrency import AdaptiveConcurrencyGuard
from routers.guards.breaker import BreakerGuard
from routers.guards.client_throttle import ClientThrottleGuard
from routers.guards.concurrency import ConcurrencyGuard
from routers.guards.ejection import EjectionGuard
from routers.guards.gateway_queue import GatewayQueueGuard
from routers.guards.pool_queue import PoolQueueGuard
from routers.guards.replica_queue import ReplicaQueueGuard
from routers.guards.retry import RetryGuard
from routers.guards.slo_shed import SloShedGuard
from routers.guards.timeout import TimeoutGuard
from routers.guards.token_backlog import TokenBacklogGuard

GUARDS: dict[str, type[Guard]] = {
    "retry": RetryGuard,
    "queue": PoolQueueGuard,
    "replica_queue": ReplicaQueueGuard,
    "gateway_queue": GatewayQueueGuard,
    "breaker": BreakerGuard,
    "ejection": EjectionGuard,
    "client_throttle": ClientThrottleGuard,
    "concurrency": ConcurrencyGuard,
    "adaptive_concurrency": AdaptiveConcurrencyGuard,
    "token_backlog": TokenBacklogGuard,
    "slo_shed": SloShedGuard,
    "timeout": TimeoutGuard,
}


def build_guard(name: str, context: GuardContext) -> Guard:
    """The guard called `name`; raises ValueError for an unknown name or parameter, listing what is allowed."""
    if name not in GUARDS:
        raise ValueError(f"unknown guard {name!r}; allowed: {', '.join(sorted(GUARDS))}")
    build: Callable[[GuardContext], Guard] = GUARDS[name]
    return build(context)
