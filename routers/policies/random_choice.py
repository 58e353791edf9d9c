"""`random`: any eligible replica with equal chance. It does not look at load."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class RandomChoice(Policy):
    """One keyed draw decides; the textbook's baseline (balls into bins with one choice).

    Weakness: the fullest of n replicas holds O(log n / log log n) times the mean at low load, and more replicas do not help.
    """

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "random")
        self._draw = RequestDraw(context.seed, "policy-random")
        self._decisions = Prebuilt("drawn")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        return self._decisions[replicas[int(self._draw(request) * len(replicas))].replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._decisions.keep(replica_ids)
