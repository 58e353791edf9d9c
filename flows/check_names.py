"""The names a study uses (policy, guard, profile, arrival, trace) against what exists. It knows no bounds and no file format."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.check_live import check_live, live_routers
from flows.problems import Problem, nearest, one_line, pool_paths
from flows.shipped_traces import shipped_traces, trace_file
from flows.study import NamedChoice, Pool, Study

if TYPE_CHECKING:
    from replicas.profile import EngineProfile

Build = Callable[[str, dict[str, Any]], object]


def check_names(study: Study, trace_known: bool = False) -> Iterator[Problem]:
    """Every name that does not exist and every parameter that its owner refuses."""
    yield from _routers(study)
    yield from _roles(study)
    yield from _clients(study)
    yield from _guards(study)
    yield from _profiles(study)
    yield from _arrival(study)
    yield from _trigger(study)
    yield from _selection(study)
    yield from check_live(study)
    if not trace_known:
        yield from _trace(study)


def _routers(study: Study) -> Iterator[Problem]:
    """Our own router's policies; those of gateways are `check_live`'s."""
    from routers.policies import POLICIES

    for i, router in enumerate(study.routers):
        for pool in study.pools if router.gateway is None else ():
            yield from _named(("routers", i), router, POLICIES, "policy", partial(_build_policy, pool))


def _roles(study: Study) -> Iterator[Problem]:
    """Whether each router can serve the pools' roles, and whether C_ref can be measured on them."""
    from routers.policies import POLICIES

    for path, pool in pool_paths(study):
        roles = set(pool.all_roles) or {"both"}
        if pool.roles and study.load.rps is None:
            allowed = "C_ref is measured on replicas that do both; a pool with roles needs load.rps"
            yield ("load", "fraction"), study.load.fraction, allowed
        key = ".".join(map(str, (*path, "live" if pool.is_live else "roles")))
        for i, router in live_routers(study, ours=True):
            if POLICIES[router.name].knows_roles and not roles >= {"prefill", "decode"}:
                yield ("routers", i), router.name, f"needs {key} with prefill and decode; they are {sorted(roles)}"
            elif not POLICIES[router.name].knows_roles and roles != {"both"}:
                yield ("routers", i), router.name, "cannot serve a pool of prefill and decode replicas; use pd_pair"


def _clients(study: Study) -> Iterator[Problem]:
    simulated = [p.title if not p.is_live else f"{p.title}'s twin" for p in study.pools if not p.is_live or p.has_twin]
    for i, client in enumerate(study.client):
        if client.idle_timeout_s is not None and simulated:
            allowed = f"must be null for simulated pools ({simulated[0]}): virtual time does not watch single chunks"
            yield ("client", i, "idle_timeout_s"), client.idle_timeout_s, allowed


def _guards(study: Study) -> Iterator[Problem]:
    from routers.guards import GUARDS

    for pool in study.pools:
        for i, guard_set in enumerate(study.guards):
            for j, guard in enumerate(guard_set.guards):
                yield from _named(("guards", i, "guards", j), guard, GUARDS, "guard", partial(_build_guard, pool))


class _NoTruth:
    """Stands for the pool's true state while a policy is built to be checked; it is never asked."""

    def predicted_ttft_s(self, replica_id: int, request: object, now_s: float) -> float:
        raise NotImplementedError

    def predicted_e2e_s(self, replica_id: int, request: object, now_s: float) -> float:
        raise NotImplementedError


def _build_policy(pool: Pool, name: str, parameters: dict[str, Any]) -> object:
    from routers.kv_events import refuse_deaf
    from routers.policies import build_policy
    from routers.policy import PolicyContext

    truth = None if pool.is_live else _NoTruth()
    built = build_policy(name, PolicyContext(0, tuple(range(pool.replicas)), parameters, truth, _profile_or_none(pool)))
    if pool.is_live:
        refuse_deaf(name, built)
    return built


def _build_guard(pool: Pool, name: str, parameters: dict[str, Any]) -> object:
    from routers.guard import GuardContext
    from routers.guards import build_guard

    return build_guard(name, GuardContext(0, tuple(range(pool.replicas)), parameters, _profile_or_none(pool)))


def _profile_or_none(pool: Pool) -> "EngineProfile | None":
    """The pool's profile; None where it is wrong, which `_profile` tells."""
    try:
        return pool.engine_profile
    except ValueError:
        return None


def _named(path: tuple[str | int, ...], choice: NamedChoice, known: Iterable[str], noun: str, build: Build) -> Iterator[Problem]:
    if choice.name not in known:
        yield (*path, "name"), choice.name, f"unknown {noun}{nearest(choice.name, known)}; allowed: {', '.join(sorted(known))}"
        return
    try:
        build(choice.name, dict(choice.parameters))
    except (ValueError, TypeError) as error:
        yield (*path, "parameters"), choice.parameters, one_line(error)


def _profiles(study: Study) -> Iterator[Problem]:
    for path, pool in pool_paths(study):
        if pool.profile is not None:
            yield from _profile(study, path, pool, pool.profile)


def _profile(study: Study, path: tuple[str | int, ...], pool: Pool, named: str) -> Iterator[Problem]:
    from replicas.profile import BadField, EngineProfile

    try:
        profile = EngineProfile.load(named)
    except ValueError as error:
        yield (*path, "profile"), named, one_line(error)
        return
    try:
        changed = profile.with_changes(pool.all_changes)
    except BadField as error:
        if error.name in pool.changes:
            yield (*path, "changes", error.name), error.value, error.allowed
        elif pool.is_live:
            yield (*path, "live"), pool.all_changes, f"its limits on its profile: {one_line(error)}"
        else:  # a field that no longer goes with a changed one
            yield (*path, "changes"), pool.changes, one_line(error)
        return
    except ValueError as error:
        yield (*path, "changes"), pool.changes, one_line(error)
        return
    most = study.workload.max_context_tokens
    if most is not None and most > changed.context_tokens and (pool.has_twin or not pool.is_live):
        allowed = f"must be at most the profile's context of {changed.context_tokens} tokens"
        yield ("workload", "max_context_tokens"), most, allowed


def _arrival(study: Study) -> Iterator[Problem]:
    from workloads.arrivals import ARRIVALS, check_arrival

    process = study.workload.arrival.get("process")
    if isinstance(process, str) and process not in ARRIVALS:
        allowed = f"unknown arrival process{nearest(process, ARRIVALS)}; allowed: {', '.join(sorted(ARRIVALS))}"
        yield ("workload", "arrival", "process"), process, allowed
        return
    try:
        check_arrival(study.workload.arrival)
    except ValueError as error:
        yield _placed(error, ("workload", "arrival"), study.workload.arrival)


def _trigger(study: Study) -> Iterator[Problem]:
    """Kind and parameters of the trigger and of the pool's events, and whether their replicas exist."""
    from workloads.events import check_event
    from workloads.triggers import TRIGGERS

    kind = study.trigger.kind
    if kind not in TRIGGERS:
        allowed = f"unknown kind of trigger{nearest(kind, TRIGGERS)}; allowed: {', '.join(TRIGGERS)}"
        yield ("trigger", "kind"), kind, allowed
        return
    try:
        yield from _replica(study, ("trigger", "replica_id"), study.trigger.described().get("replica_id"))
    except ValueError as error:
        yield _placed(error, ("trigger",), {"kind": kind, "d_s": study.trigger.d_s, **(study.trigger.model_extra or {})})
    for i, event in enumerate(study.events):
        at_s = event.get("at_s")
        if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not 0 <= at_s <= study.horizon_s:
            yield ("events", i, "at_s"), at_s, f"must be a number of seconds from 0 to the last phase's end, {study.horizon_s:g}"
            continue
        try:
            checked = check_event({k: v for k, v in event.items() if k != "at_s"}, f"events[{i}]")
            yield from _replica(study, ("events", i, "replica_id"), checked["replica_id"])
        except ValueError as error:
            yield _placed(error, ("events", i), event)


def _replica(study: Study, path: tuple[str | int, ...], replica_id: int | None) -> Iterator[Problem]:
    fewest = min(pool.replicas for pool in study.pools)
    if replica_id is not None and replica_id >= fewest:
        yield path, replica_id, f"must be null (every replica) or from 0 to {fewest - 1}, as pool.replicas says"


def _selection(study: Study) -> Iterator[Problem]:
    from workloads.selection import Selection

    try:
        Selection.of(study.workload.select)
    except (ValueError, TypeError) as error:
        yield _placed(error, ("workload", "select"), study.workload.select)


def _trace(study: Study) -> Iterator[Problem]:
    from workloads.sources import SOURCES

    choice = study.workload
    if choice.source is not None and choice.source not in SOURCES:
        allowed = f"unknown source{nearest(choice.source, SOURCES)}; allowed: {', '.join(sorted(SOURCES))}"
        yield ("workload", "source"), choice.source, allowed
    elif choice.source is not None and choice.trace in SOURCES and not Path(choice.trace).exists():
        yield ("workload", "source"), choice.source, f"names the format of a file; {choice.trace!r} is a source's name"
    if choice.trace not in SOURCES and not Path(trace_file(choice.trace)).exists():
        known = sorted([*SOURCES, *shipped_traces()])
        allowed = f"no such file or folder, nor a known trace{nearest(choice.trace, known)}; known: {', '.join(known)}"
        yield ("workload", "trace"), choice.trace, allowed


def _placed(error: Exception, root: tuple[str | int, ...], value: Any) -> Problem:
    """An error `arrival.superpose[1].cv is -1; expected …` at the very key it names; at `root` where it names none."""
    said = one_line(error)
    found = re.match(r"[a-z_]+(?P<path>[\w.\[\]]*) is (?P<what>.*?); (?P<allowed>.*)$", said)
    path = [int(p) if p.isdigit() else p for p in re.findall(r"[^.\[\]]+", found["path"])] if found else []
    if root[0] == "events":
        path = path[1:]
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return root, value, said
    allowed = said if not found else found["allowed"] if found["what"] == repr(value) else f"{found['what']}; {found['allowed']}"
    return (*root, *path), value, allowed
