"""`round_robin`: each replica in turn. It does not look at load."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class RoundRobin(Policy):
    """Request n goes to place n modulo the number of eligible replicas, in ascending id."""

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "round_robin")
        self._decisions = {i: Decision(i, "next in turn") for i in context.replica_ids}
        self._turn = 0

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        chosen = replicas[self._turn % len(replicas)].replica_id
        self._turn += 1
        return self._decisions[chosen]
