"""`power_of_two`: the lighter of two replicas drawn at random. It looks at no third one."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class PowerOfTwo(Policy):
    """Two *distinct* replicas, the fewer in flight by the router's own count wins, the first drawn on a tie.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001; Envoy's least-request with its default
    `choice_count` of 2 is the same but may draw one replica twice. Weakness: a request counts one, however long it is, and
    with several router replicas each counts its own share only.
    """

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "power_of_two")
        self._draw = RequestDraw(context.seed, "policy-power-of-two")
        self._decisions = Prebuilt("lighter of two")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        first, second = self._draw.two_of(len(replicas), request)
        one, other = replicas[first], replicas[second]
        return self._decisions[other.replica_id if other.in_flight < one.in_flight else one.replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._decisions.keep(replica_ids)
