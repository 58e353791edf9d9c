"""`power_of_two`: the lighter of two replicas drawn at random. It looks at no third one."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from workloads.draws import purpose_id, uniform

_FIRST = purpose_id("policy-power-of-two-first")
_SECOND = purpose_id("policy-power-of-two-second")


class PowerOfTwo(Policy):
    """Two *distinct* replicas, the fewer in flight wins, the first drawn on a tie (Mitzenmacher 2001)."""

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "power_of_two")
        self._seed = context.seed
        self._decisions = {i: Decision(i, "lighter of two") for i in context.replica_ids}

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        first, second = two_drawn(len(replicas), self._seed, request)
        one, other = replicas[first], replicas[second]
        return self._decisions[other.replica_id if other.in_flight < one.in_flight else one.replica_id]


def two_drawn(n: int, seed: int, request: RoutedRequest) -> tuple[int, int]:
    """Two distinct places in 0…n-1, every ordered pair with equal chance; (0, 0) where n = 1."""
    if n == 1:
        return 0, 0
    key = request.request_id, request.client_attempt, request.router_try
    first = int(uniform(seed, _FIRST, *key) * n)
    second = int(uniform(seed, _SECOND, *key) * (n - 1))
    return first, second + (second >= first)
