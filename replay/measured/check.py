"""What of a study a real pool cannot do, said before anything starts. It starts nothing and asks nobody."""

from collections.abc import Sequence
from typing import Any

from replay.cell import Cell, Named
from replay.observation import ObservationRule
from replicas.profile import EngineProfile
from replicas.view import Role
from routers.gateways import DIRECT, find_gateway
from routers.gateways.gateway import GatewaySpec, Upstream
from routers.guard import GuardContext
from routers.guards import build_guard
from routers.kv_events import refuse_deaf
from routers.policies import build_policy
from routers.policy import PolicyContext
from workloads.events import Event

LIVE_EVENTS = ("kill", "pause", "flush")
_OF_PROCESSES = ("kill", "pause")


def check_live(cell: Cell, events: Sequence[Event], launched: bool = True) -> list[str]:
    """Everything that hinders a cell from running on a live pool, one line each; empty = it can. See the two below."""
    pool = cell.pool
    return [
        *check_events(events, pool.replicas, launched),
        *check_arm(cell.router, cell.guards, cell.observation, pool.roles, pool.profile, pool.changes),
    ]


def check_events(events: Sequence[Event], replicas: int, launched: bool = True) -> list[str]:
    """Events that a live pool cannot be made to have. `launched`: its processes are ours, not somebody else's behind a URL."""
    problems = []
    for i, event in enumerate(events):
        where = f"events[{i}] ({event.kind} at {event.at_s:g} s)"
        if event.kind not in LIVE_EVENTS:
            problems.append(
                f"{where}: cannot be done to a real engine; allowed on a live pool: {', '.join(LIVE_EVENTS)} (others: simulated)"
            )
        elif event.kind in _OF_PROCESSES and not launched:
            problems.append(f"{where}: the pool is remote, its processes cannot be touched; allowed there: flush")
        if event.replica_id is not None and not 0 <= event.replica_id < replicas:
            problems.append(f"{where}: replica_id is {event.replica_id}; allowed: 0 to {replicas - 1}, or null for every replica")
    return problems or _overlaps(events)


def check_arm(
    router: Named,
    guards: Sequence[Named],
    observation: ObservationRule,
    roles: Sequence[Role] = (),
    profile: str = "",
    changes: dict[str, Any] | None = None,
) -> list[str]:
    """What a router with these guards cannot be in front of real replicas: ours, a gateway, or nobody (`direct`)."""
    if not router.gateway:
        return [*_of_observation(observation), *_of_our_router(router, guards, roles, profile, changes or {})]
    problems = []
    if guards:
        problems.append(f"guards {[g.name for g in guards]}: only our own router has guards; allowed with {router.gateway}: none")
    try:
        if router.gateway != DIRECT:
            upstreams = tuple(Upstream("http://127.0.0.1:1", role) for role in roles) or (Upstream("http://127.0.0.1:1"),)
            gateway = find_gateway(router.gateway)
            gateway.check(GatewaySpec(router.name, upstreams, 1, 1, router.arm or "default", parameters=dict(router.parameters)))
        elif router.parameters or router.arm:
            problems.append(f"{DIRECT}: parameters {router.parameters} and arm {router.arm!r}; allowed: none, nobody is there")
        elif roles:
            problems.append(f"{DIRECT}: prefill and decode replicas need a router that pairs them")
    except ValueError as error:
        problems.append(str(error))
    return problems


def _of_observation(rule: ObservationRule) -> list[str]:
    """Our router process polls at a steady pace; what it hears is not made worse on purpose."""
    return [
        f"observation.{name} is {getattr(rule, name)!r}; allowed on a live pool: {plain} (only virtual time can change it)"
        for name, plain in (("jitter_s", 0.0), ("loss", 0.0), ("routers", 1), ("kv_lag_s", 0.0), ("kv_loss", 0.0))
        if getattr(rule, name) != plain
    ]


def _of_our_router(
    router: Named, guards: Sequence[Named], roles: Sequence[Role], profile: str, changes: dict[str, Any]
) -> list[str]:
    if router.arm:
        return [f"arm is {router.arm!r}: only a gateway has arms; allowed with our own router: none"]
    if tuple(roles) != tuple(sorted(roles, key=("both", "prefill", "decode").index)):
        return [f"roles {list(roles)}: prefill replicas come before decode replicas in a live pool"]
    try:
        engine = EngineProfile.load(profile).with_changes(changes) if profile else None
        ids = tuple(range(max(2, len(roles))))
        policy = build_policy(router.name, PolicyContext(0, ids, dict(router.parameters), None, engine))
        refuse_deaf(router.name, policy)
        for guard in guards:
            build_guard(guard.name, GuardContext(0, ids, dict(guard.parameters), engine))
    except ValueError as error:
        return [str(error)]
    return []


def _overlaps(events: Sequence[Event]) -> list[str]:
    """One replica can be hurt in one way at a time."""
    problems = []
    known = sorted(enumerate(events), key=lambda pair: (pair[1].at_s, pair[0]))
    for place, (i, one) in enumerate(known):
        for j, other in known[place + 1 :]:
            same = one.replica_id is None or other.replica_id is None or one.replica_id == other.replica_id
            if same and other.at_s < one.until_s:
                problems.append(
                    f"events[{j}] ({other.kind} at {other.at_s:g} s) comes before events[{i}] ({one.kind}) is over at "
                    f"{one.until_s:g} s; allowed on a live pool: one at a time at a replica"
                )
    return problems
