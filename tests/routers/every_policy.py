"""Any registered policy, built with its defaults, and the pool it needs; for tests that hold for all of them."""

from replicas.profile import EngineProfile
from replicas.view import ReplicaView, Role
from routers.policies import POLICIES, build_policy
from routers.policy import Policy, PolicyContext, RoutedRequest

_ROLES: tuple[Role, ...] = ("prefill", "decode")


class FixedTruth:
    """What `oracle` is told in tests: a number of the replica and the request alone."""

    def predicted_ttft_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return float((7 * replica_id + request.request_id) % 5)

    def predicted_e2e_s(self, replica_id: int, request: RoutedRequest, now_s: float) -> float:
        return 10.0 + self.predicted_ttft_s(replica_id, request, now_s)


def role_of(name: str, place: int) -> Role:
    """The role of the replica at a place of a pool that this policy can serve: by turns where it knows roles."""
    return _ROLES[place % 2] if POLICIES[name].knows_roles else "both"


def pool_for(name: str, n: int) -> list[ReplicaView]:
    return [ReplicaView(i, role=role_of(name, i)) for i in range(n)]


def built(name: str, n: int, profile: EngineProfile | None = None, seed: int = 1) -> Policy:
    """The policy with its defaults over replicas 0 … n−1."""
    return build_policy(name, PolicyContext(seed, tuple(range(n)), {}, FixedTruth(), profile))
