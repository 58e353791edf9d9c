"""`random`: any eligible replica with equal chance. It does not look at load."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from workloads.draws import purpose_id, uniform

_DRAW = purpose_id("policy-random")


class RandomChoice(Policy):
    """One keyed draw decides; it looks at nothing else."""

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "random")
        self._seed = context.seed
        self._decisions = {i: Decision(i, "drawn") for i in context.replica_ids}

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        draw = uniform(self._seed, _DRAW, request.request_id, request.client_attempt, request.router_try)
        return self._decisions[replicas[int(draw * len(replicas))].replica_id]
