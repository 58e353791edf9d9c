"""`power_of_two_stale`: the lighter of two by *polled* load. It keeps no count of its own: what it just sent it does not see."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class PowerOfTwoStale(Policy):
    """Two *distinct* replicas, the fewer waiting + running as last observed wins, the first drawn on a tie.

    The rule of the routers that poll (sglang-router's `power_of_two` with `/get_load`); what was never observed counts 0. The
    age of the news is the study's `observation`. Weakness, and the reason to have it: between two polls all of a replica's
    rivals lose to it, so whoever was lightest is sent twice its share until the next poll (herding).
    """

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "power_of_two_stale")
        self._draw = RequestDraw(context.seed, "policy-power-of-two-stale")
        self._decisions = Prebuilt("lighter of two, as polled")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        first, second = self._draw.two_of(len(replicas), request)
        one, other = replicas[first], replicas[second]
        lighter = other.waiting + other.running < one.waiting + one.running
        return self._decisions[other.replica_id if lighter else one.replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._decisions.keep(replica_ids)
