"""`round_robin`: each replica in turn. It does not look at load."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class RoundRobin(Policy):
    """Request n goes to place n modulo the number of eligible replicas, in ascending id (SMG's `round_robin.rs` likewise).

    Weakness: equal counts are not equal work, and a change of the eligible ones makes it skip or repeat some.
    """

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "round_robin")
        self._decisions = Prebuilt("next in turn")
        self._turn = 0

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        chosen = replicas[self._turn % len(replicas)].replica_id
        self._turn += 1
        return self._decisions[chosen]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._decisions.keep(replica_ids)
