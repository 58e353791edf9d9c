"""`weighted_round_robin`: each replica in turn as often as its weight, evenly interleaved. It does not look at load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.books.tally import Tally
from routers.choices.prebuilt import Prebuilt
from routers.choices.weights import weights_of
from routers.parameters import settings_of
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class WeightedRoundRobinSettings:
    """`weights` of the first replicas in ascending id; who has none weighs 1 (nginx's default)."""

    weights: tuple[int, ...] = ()


class WeightedRoundRobin(Policy):
    """Smooth weighted round robin (nginx, `ngx_http_upstream_round_robin.c`): every eligible replica gains its weight, the
    highest is chosen (the first on a tie) and pays the sum of the weights; weights 5, 1, 1 give a a b a c a a.

    nginx also lowers the weight of peers that fail; here guards do that. Weakness: weights are a guess made beforehand.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(WeightedRoundRobinSettings, context.parameters, "weighted_round_robin")
        self._set_weights = weights_of(settings.weights, context.replica_ids, "weighted_round_robin")
        self._weights, self._gained = Tally(context.replica_ids), Tally(context.replica_ids)
        self._decisions = Prebuilt("next in weighted turn")
        self.on_pool(context.replica_ids, 0.0)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        gained, weights = self._gained, self._weights
        if len(replicas) == len(gained.ids):
            values = gained.values = [g + w for g, w in zip(gained.values, weights.values, strict=True)]
            best = values.index(max(values))
            values[best] -= self._total
            return self._decisions[replicas[best].replica_id]
        for view in replicas:
            gained.add(view.replica_id, weights[view.replica_id])
        values = gained.of(replicas)
        chosen = replicas[values.index(max(values))].replica_id
        gained.add(chosen, -sum(weights.of(replicas)))
        return self._decisions[chosen]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._weights.keep(replica_ids)
        self._weights.values = [self._set_weights.get(i, 1) for i in replica_ids]
        self._total = sum(self._weights.values)
        self._gained.keep(replica_ids)
        self._decisions.keep(replica_ids)
