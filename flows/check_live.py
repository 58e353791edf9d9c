"""Checks what a study asks of live pools: load, gateways, guards, observation, events. It looks for no program on this host."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from flows.problems import KeyPath, Problem, nearest, one_line, pool_paths
from flows.study import Pool, RouterChoice, Study
from flows.study_parts import DIRECT

if TYPE_CHECKING:
    from routers.gateways.gateway import Gateway, GatewaySpec
    from workloads.events import Event

OURS = ("jitter_s", "loss", "kv_lag_s", "kv_loss")
"""What only virtual time can do to a router's news."""


def check_live(study: Study) -> Iterator[Problem]:
    """Everything that a live pool, or several pools at once, cannot do."""
    yield from _load(study)
    yield from _fronts(study)
    if study.is_live:
        yield from _pools(study)
        yield from _guards(study)
        yield from _observation(study)
        yield from _events(study)


def live_routers(study: Study, ours: bool) -> list[tuple[int, RouterChoice]]:
    """Routers with their places: our own router's policies, or what else stands in front of a live pool."""
    return [(i, router) for i, router in enumerate(study.routers) if (router.gateway is None) == ours]


def _load(study: Study) -> Iterator[Problem]:
    fraction = study.load.fraction
    if fraction is not None and study.is_live:
        allowed = "C_ref is searched in virtual time, and a live pool's would take hours: give load.rps"
        yield ("load", "fraction"), fraction, allowed
    elif fraction is not None and len(study.pools) > 1:
        allowed = "each pool has a C_ref of its own, and all pools of a study get the same load: give load.rps"
        yield ("load", "fraction"), fraction, allowed
    if not study.is_live and study.repeats > 1:
        yield ("repeats",), study.repeats, "must be 1 for simulated pools: a cell comes out the same each time; raise seeds"


def _fronts(study: Study) -> Iterator[Problem]:
    """Gateways and the direct arm: where they can stand, and whether they know the policy."""
    from routers.gateways import GATEWAYS

    for i, router in live_routers(study, ours=False):
        path, name = ("routers", i), router.gateway
        if name != DIRECT and name not in GATEWAYS:
            known = (DIRECT, *GATEWAYS)
            allowed = f"unknown gateway{nearest(str(name), known)}; allowed: null (our own router), {', '.join(known)}"
            yield (*path, "gateway"), name, allowed
            continue
        for pool_path, pool in pool_paths(study):
            if not pool.is_live:
                where = ".".join(map(str, pool_path))
                yield (*path, "gateway"), name, f"needs live pools, and {where} is simulated: there is nothing to connect to"
                break
            if name == DIRECT and pool.all_roles:
                yield (*path, "gateway"), name, "cannot serve a pool of prefill and decode replicas: nobody would pair them"
            elif name != DIRECT:
                yield from _gateway(path, router, pool)


def _gateway(path: KeyPath, router: RouterChoice, pool: Pool) -> Iterator[Problem]:
    from pathlib import Path

    from routers.gateways import find_gateway

    gateway = find_gateway(str(router.gateway))
    if router.name not in gateway.policies:
        allowed = (
            f"{router.gateway} has no such policy{nearest(router.name, gateway.policies)}; allowed: {', '.join(gateway.policies)}"
        )
        yield (*path, "name"), router.name, allowed
        return
    try:
        gateway.launch(_spec(gateway, router, pool), Path("program"), Path("folder"))
    except ValueError as error:
        yield (*path, "parameters"), router.parameters, one_line(error)


def _spec(gateway: "Gateway", router: RouterChoice, pool: Pool) -> "GatewaySpec":
    """As the gateway would be asked, with addresses that stand for the replicas' own."""
    from routers.gateways.gateway import GatewaySpec, Upstream

    roles = [(group.engine, group.role) for group in pool.groups for _ in range(group.replicas)]
    upstreams = tuple(Upstream(f"http://127.0.0.1:{i + 1}", role, engine) for i, (engine, role) in enumerate(roles))
    return GatewaySpec(router.name, upstreams, 1, 2, router.arm or "default", parameters=dict(router.parameters))


def _pools(study: Study) -> Iterator[Problem]:
    """Prompts must fit what an engine holds: vLLM cuts a longer request short without a word."""
    for path, pool in pool_paths(study):
        try:
            most = pool.context_tokens
        except ValueError as error:
            yield (*path, "live"), pool.title, one_line(error)
            continue
        if pool.is_live and list(pool.all_roles) != sorted(pool.all_roles, key=("both", "prefill", "decode").index):
            yield (*path, "live"), list(pool.all_roles), "prefill groups must come before decode groups"
        asked = study.workload.max_context_tokens
        if pool.is_live and asked is not None and asked > most:
            yield ("workload", "max_context_tokens"), asked, f"must be at most {most}, what {pool.title} can hold"


def _guards(study: Study) -> Iterator[Problem]:
    foreign = next((router.named().label for _, router in live_routers(study, ours=False)), None)
    for i, guards in enumerate(study.guards):
        if guards.guards and foreign is not None:
            allowed = (
                f"guards are our own router's, and the router {foreign!r} is none: leave one or the other to a study of its own"
            )
            yield ("guards", i), guards.label, allowed


def _observation(study: Study) -> Iterator[Problem]:
    for name in OURS:
        if value := getattr(study.observation, name):
            yield ("observation", name), value, "must be 0 for live pools: the router process hears its replicas as they are"
    if study.observation.routers > 1:
        yield ("observation", "routers"), study.observation.routers, "must be 1 for live pools: one router process stands there"


def _events(study: Study) -> Iterator[Problem]:
    """Events, and a trigger that is one, must be such as can be done to a real replica, one at a time."""
    from replay.measured import check_events
    from workloads.events import check_event, event_of
    from workloads.triggers import trigger_events

    told: list[tuple[KeyPath, Event]] = []
    try:
        for i, event in enumerate(study.events):
            checked = check_event({k: v for k, v in event.items() if k != "at_s"}, f"events[{i}]")
            told.append((("events", i, "kind"), event_of(checked, float(event["at_s"]))))
        start_s = study.phases.warmup_s + study.phases.steady_s
        told += [(("trigger", "kind"), event) for event in trigger_events(study.trigger.described(), start_s)]
    except (ValueError, TypeError, KeyError):  # which `check_names` tells
        return
    live = [pool for pool in study.pools if pool.is_live]
    refused = [(path, event.kind, why) for path, event in told for pool in live if (why := _cannot(event.kind, pool))]
    yield from refused
    for why in () if refused else check_events([event for _, event in told], min(pool.replicas for pool in live)):
        yield ("events",), study.events, why


def _cannot(kind: str, pool: Pool) -> str:
    """Why an event cannot be done to the pool's replicas; "" where it can."""
    if kind in ("kill", "pause") and any(group.remote for group in pool.groups):
        return f"cannot be done to {pool.title}: its replicas are remote, and their processes are out of reach"
    if kind in ("slow", "refuse", "blackout"):
        return f"cannot be done to a real engine ({pool.title}); allowed with live pools: pause, kill, flush"
    return ""
