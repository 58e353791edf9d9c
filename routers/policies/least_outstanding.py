"""`least_outstanding`: the replica with the fewest requests in flight. It does not know how long they are."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.request_draw import RequestDraw
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


class LeastOutstanding(Policy):
    """Fewest in flight by the router's own exact count, ties at random (AIBrix's least-request; Envoy's with a full scan).

    Weakness: a request of 100 tokens and one of 100,000 count the same, and other routers' requests are not seen.
    """

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "least_outstanding")
        self._draw = RequestDraw(context.seed, "policy-least-outstanding")
        self._alone = Prebuilt("fewest in flight")
        self._drawn = Prebuilt("fewest in flight, tie drawn")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        fewest = replicas[0].in_flight
        ties: list[ReplicaView] = []
        for view in replicas:
            in_flight = view.in_flight
            if in_flight > fewest:
                continue
            if in_flight < fewest:
                fewest = in_flight
                ties.clear()
            ties.append(view)
        if len(ties) == 1:
            return self._alone[ties[0].replica_id]
        return self._drawn[ties[int(self._draw(request) * len(ties))].replica_id]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._alone.keep(replica_ids)
        self._drawn.keep(replica_ids)
