"""`least_outstanding`: the replica with the fewest requests in flight. It does not know how long they are."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.parameters import no_parameters
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest
from workloads.draws import purpose_id, uniform

_TIE = purpose_id("policy-least-outstanding-tie")


class LeastOutstanding(Policy):
    """Fewest in flight by the router's own exact count, ties at random (Envoy's and AIBrix's least-request)."""

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "least_outstanding")
        self._seed = context.seed
        self._alone = {i: Decision(i, "fewest in flight") for i in context.replica_ids}
        self._drawn = {i: Decision(i, "fewest in flight, tie drawn") for i in context.replica_ids}

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        fewest = replicas[0].in_flight
        lightest: list[int] = []
        for view in replicas:
            if view.in_flight < fewest:
                fewest = view.in_flight
                lightest = [view.replica_id]
            elif view.in_flight == fewest:
                lightest.append(view.replica_id)
        if len(lightest) == 1:
            return self._alone[lightest[0]]
        return self._drawn[drawn_from(lightest, self._seed, _TIE, request)]


def drawn_from(ids: Sequence[int], seed: int, purpose: int, request: RoutedRequest) -> int:
    """One of `ids` with equal chance, keyed by the purpose and the request's try."""
    if len(ids) == 1:
        return ids[0]
    return ids[int(uniform(seed, purpose, request.request_id, request.client_attempt, request.router_try) * len(ids))]
