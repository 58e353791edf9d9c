"""The routing rules by name: a new policy is its file and one line here."""

from collections.abc import Callable

from routers.policies.cache_aware import CacheAware
from routers.policies.consistent_hash import ConsistentHash
from routers.policies.least_outstanding import LeastOutstanding
from routers.policies.oracle import Oracle
from routers.policies.pd_pair import PdPair
from routers.policies.power_of_two import PowerOfTwo
from routers.policies.prequal import Prequal
from routers.policies.random_choice import RandomChoice
from routers.policies.round_robin import RoundRobin
from routers.policy import Policy, PolicyContext

POLICIES: dict[str, type[Policy]] = {
    "random": RandomChoice,
    "round_robin": RoundRobin,
    "least_outstanding": LeastOutstanding,
    "power_of_two": PowerOfTwo,
    "consistent_hash": ConsistentHash,
    "cache_aware": CacheAware,
    "oracle": Oracle,
    "prequal": Prequal,
    "pd_pair": PdPair,
}


def build_policy(name: str, context: PolicyContext) -> Policy:
    """The policy called `name`; raises ValueError for an unknown name or parameter, listing what is allowed."""
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; allowed: {', '.join(sorted(POLICIES))}")
    build: Callable[[PolicyContext], Policy] = POLICIES[name]
    return build(context)
