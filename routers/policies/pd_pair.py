"""`pd_pair`: a prefill replica and a decode replica for each request. It does not know prompt lengths or cached prefixes."""

from collections.abc import Sequence

from replicas.view import ReplicaView
from routers.parameters import no_parameters
from routers.policies.least_outstanding import drawn_from
from routers.policy import Decision, NoReplica, Policy, PolicyContext, RoutedRequest, TryEnd
from workloads.draws import purpose_id

_PREFILL = purpose_id("policy-pd-pair-prefill")
_DECODE = purpose_id("policy-pd-pair-decode")


class PdPair(Policy):
    """Least outstanding prefill replica × decode replica with the fewest pairs, ties at random.

    A decode replica's load is the pairs that were *given* to it, the ones still in prefill included: its own in-flight
    count would not show them, and a burst would herd on one replica. Raises NoReplica where a role is missing.
    """

    knows_roles = True

    def __init__(self, context: PolicyContext) -> None:
        no_parameters(context.parameters, "pd_pair")
        self._seed = context.seed
        self._pairs = dict.fromkeys(context.replica_ids, 0)

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        prefill = {v.replica_id: v.in_flight for v in replicas if v.role == "prefill"}
        decode = {v.replica_id: self._pairs[v.replica_id] for v in replicas if v.role == "decode"}
        if not prefill or not decode:
            raise NoReplica
        prefill_id = drawn_from(_lightest(prefill), self._seed, _PREFILL, request)
        decode_id = drawn_from(_lightest(decode), self._seed, _DECODE, request)
        return Decision(decode_id, "least outstanding pair", prefill_id=prefill_id)

    def on_sent(self, request: RoutedRequest, decision: Decision, now_s: float) -> None:
        self._pairs[decision.replica_id] += 1

    def on_end(self, request: RoutedRequest, decision: Decision, end: TryEnd, now_s: float) -> None:
        self._pairs[decision.replica_id] -= 1


def _lightest(loads: dict[int, int]) -> list[int]:
    fewest = min(loads.values())
    return [i for i, load in loads.items() if load == fewest]
