"""The routing rules by name: a new policy is its file and one line here."""

from collections.abc import Callable

from routers.policies.aibrix_prefix import AibrixPrefix
from routers.policies.bucket import Bucket
from routers.policies.cache_aware import CacheAware
from routers.policies.consistent_hash import ConsistentHash
from routers.policies.consistent_hash_bounded import ConsistentHashBounded
from routers.policies.consistent_hash_two_choices import ConsistentHashTwoChoices
from routers.policies.dlpm import Dlpm
from routers.policies.drain_time import DrainTime
from routers.policies.epp_weighted import EppWeighted
from routers.policies.fair_vtc import FairVtc
from routers.policies.join_idle_queue import JoinIdleQueue
from routers.policies.kv_cost import KvCost
from routers.policies.least_outstanding import LeastOutstanding
from routers.policies.least_tokens import LeastTokens
from routers.policies.lmetric import LMetric
from routers.policies.maglev import Maglev
from routers.policies.oracle import Oracle
from routers.policies.pd_conditional import PdConditional
from routers.policies.pd_pair import PdPair
from routers.policies.power_of_two import PowerOfTwo
from routers.policies.power_of_two_stale import PowerOfTwoStale
from routers.policies.preble import Preble
from routers.policies.prefix_hash import PrefixHash
from routers.policies.prequal import Prequal
from routers.policies.random_choice import RandomChoice
from routers.policies.rendezvous import Rendezvous
from routers.policies.round_robin import RoundRobin
from routers.policies.session_affinity import SessionAffinity
from routers.policies.slo_aware import SloAware
from routers.policies.sticky_least_sessions import StickyLeastSessions
from routers.policies.weighted_round_robin import WeightedRoundRobin
from routers.policy import Policy, PolicyContext

POLICIES: dict[str, type[Policy]] = {
    "random": RandomChoice,
    "round_robin": RoundRobin,
    "least_outstanding": LeastOutstanding,
    "power_of_two": PowerOfTwo,
    "consistent_hash": ConsistentHash,
    "cache_aware": CacheAware,
    "prefix_hash": PrefixHash,
    "aibrix_prefix": AibrixPrefix,
    "epp_weighted": EppWeighted,
    "kv_cost": KvCost,
    "lmetric": LMetric,
    "preble": Preble,
    "oracle": Oracle,
    "prequal": Prequal,
    "pd_pair": PdPair,
    "weighted_round_robin": WeightedRoundRobin,
    "power_of_two_stale": PowerOfTwoStale,
    "consistent_hash_bounded": ConsistentHashBounded,
    "consistent_hash_two_choices": ConsistentHashTwoChoices,
    "rendezvous": Rendezvous,
    "maglev": Maglev,
    "least_tokens": LeastTokens,
    "drain_time": DrainTime,
    "join_idle_queue": JoinIdleQueue,
    "sticky_least_sessions": StickyLeastSessions,
    "session_affinity": SessionAffinity,
    "slo_aware": SloAware,
    "bucket": Bucket,
    "pd_conditional": PdConditional,
    "fair_vtc": FairVtc,
    "dlpm": Dlpm,
}


def build_policy(name: str, context: PolicyContext) -> Policy:
    """The policy called `name`; raises ValueError for an unknown name or parameter, listing what is allowed."""
    if name not in POLICIES:
        raise ValueError(f"unknown policy {name!r}; allowed: {', '.join(sorted(POLICIES))}")
    build: Callable[[PolicyContext], Policy] = POLICIES[name]
    return build(context)
