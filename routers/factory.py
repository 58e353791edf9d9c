"""Builds a whole router from names and parameters, as a study gives them. It does not know what the rules do."""

from collections.abc import Sequence

from replicas.profile import EngineProfile
from replicas.view import ReplicaView
from routers.guard import GuardContext
from routers.guards import build_guard
from routers.policies import build_policy
from routers.policy import PolicyContext, Truth
from routers.router import OnDecision, Router
from routers.tries import Effects


def build_router(
    router_name: str,
    router_parameters: dict[str, object],
    guards: Sequence[tuple[str, dict[str, object]]],
    views: Sequence[ReplicaView],
    effects: Effects,
    seed: int,
    truth: Truth | None = None,
    on_decision: OnDecision | None = None,
    profile: EngineProfile | None = None,
    number: int = 0,
    of: int = 1,
) -> Router:
    """A router in front of `views`; raises ValueError in one line for what is unknown or not allowed."""
    ids = tuple(sorted(v.replica_id for v in views))
    if not ids:
        raise ValueError("a router needs at least one replica")
    policy = build_policy(router_name, PolicyContext(seed, ids, dict(router_parameters), truth, profile))
    roles = {v.role for v in views}
    if policy.knows_roles and not roles >= {"prefill", "decode"}:
        raise ValueError(f"router {router_name!r} needs a pool with prefill and decode replicas; roles are {sorted(roles)}")
    if not policy.knows_roles and roles != {"both"}:
        raise ValueError(f"router {router_name!r} cannot serve a pool of prefill and decode replicas; use pd_pair")
    built = [build_guard(name, GuardContext(seed, ids, dict(parameters), profile)) for name, parameters in guards]
    own = policy.own_guard()
    return Router(policy, built if own is None else [*built, own], views, effects, on_decision=on_decision, number=number, of=of)
