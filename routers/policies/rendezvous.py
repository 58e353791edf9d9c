"""`rendezvous`: a session goes to the replica that scores highest for its key. It is blind to load."""

from collections.abc import Sequence
from dataclasses import dataclass

from replicas.view import ReplicaView
from routers.choices.prebuilt import Prebuilt
from routers.choices.weights import weights_of
from routers.hashing.hash_ring import hash_of
from routers.hashing.rendezvous_hash import RendezvousHash
from routers.parameters import settings_of
from routers.policy import Decision, Policy, PolicyContext, RoutedRequest


@dataclass(frozen=True, slots=True)
class RendezvousSettings:
    """`weights` of the first replicas in ascending id; who has none weighs 1."""

    weights: tuple[int, ...] = ()


class Rendezvous(Policy):
    """Highest random weight over the *eligible* replicas: Envoy's `rendezvous_hash` (`rendezvous_hash_lb.cc`, in its main branch
    only), and vllm-router's `rendezvous_hash.rs` without the weights.

    Who is away gives its sessions to all others evenly, and nobody else moves; a weight of 2 draws twice the sessions. Weakness:
    O(replicas) a decision; blind to load, so hot keys make hot spots as on a ring.
    """

    def __init__(self, context: PolicyContext) -> None:
        settings = settings_of(RendezvousSettings, context.parameters, "rendezvous")
        self._set_weights = weights_of(settings.weights, context.replica_ids, "rendezvous")
        self._hash = RendezvousHash(self._set_weights)
        self._decisions = Prebuilt("session's highest score")

    def choose(self, request: RoutedRequest, replicas: Sequence[ReplicaView], now_s: float) -> Decision:
        return self._decisions[self._hash.first_of(replicas, hash_of(request.session_key))]

    def on_pool(self, replica_ids: tuple[int, ...], now_s: float) -> None:
        self._hash = RendezvousHash({i: self._set_weights.get(i, 1) for i in replica_ids})
        self._decisions.keep(replica_ids)
