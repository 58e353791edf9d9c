"""The names a study uses (policy, guard, profile, arrival, trace) against what exists. It knows no bounds and no file format."""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.study import NamedChoice, Study

if TYPE_CHECKING:
    from replicas.profile import EngineProfile

Build = Callable[[str, dict[str, Any]], object]
Problem = tuple[tuple[str | int, ...], object, str]
"""A key path, the value there, and what is allowed instead."""


def check_names(study: Study, trace_known: bool = False) -> Iterator[Problem]:
    """Every name that does not exist and every parameter that its owner refuses."""
    yield from _routers(study)
    yield from _roles(study)
    yield from _clients(study)
    yield from _guards(study)
    yield from _profile(study)
    yield from _arrival(study)
    yield from _trigger(study)
    yield from _selection(study)
    if not trace_known:
        yield from _trace(study)


def _routers(study: Study) -> Iterator[Problem]:
    from routers.policies import POLICIES

    ids = tuple(range(study.pool.replicas))
    for i, router in enumerate(study.routers):
        yield from _named(("routers", i), router, POLICIES, "policy", partial(_build_policy, study, ids))


def _roles(study: Study) -> Iterator[Problem]:
    """Whether each router can serve the pool's roles, and whether C_ref can be measured on it."""
    from routers.policies import POLICIES

    roles = set(study.pool.roles) or {"both"}
    if study.pool.roles and study.load.rps is None:
        allowed = "C_ref is measured on replicas that do both; a pool with roles needs load.rps"
        yield ("load", "fraction"), study.load.fraction, allowed
    for i, router in enumerate(study.routers):
        if POLICIES[router.name].knows_roles and not roles >= {"prefill", "decode"}:
            yield ("routers", i), router.name, f"needs pool.roles with prefill and decode; they are {sorted(roles)}"
        elif not POLICIES[router.name].knows_roles and roles != {"both"}:
            yield ("routers", i), router.name, "cannot serve a pool of prefill and decode replicas; use pd_pair"


def _clients(study: Study) -> Iterator[Problem]:
    for i, client in enumerate(study.client):
        if client.idle_timeout_s is not None:
            yield ("client", i, "idle_timeout_s"), client.idle_timeout_s, "must be null: no driver watches single chunks yet"


def _guards(study: Study) -> Iterator[Problem]:
    from routers.guards import GUARDS

    ids = tuple(range(study.pool.replicas))
    for i, guard_set in enumerate(study.guards):
        for j, guard in enumerate(guard_set.guards):
            yield from _named(("guards", i, "guards", j), guard, GUARDS, "guard", partial(_build_guard, study, ids))


class _NoTruth:
    """Stands for the pool's true state while a policy is built to be checked; it is never asked."""

    def predicted_ttft_s(self, replica_id: int, request: object, now_s: float) -> float:
        raise NotImplementedError

    def predicted_e2e_s(self, replica_id: int, request: object, now_s: float) -> float:
        raise NotImplementedError


def _build_policy(study: Study, ids: tuple[int, ...], name: str, parameters: dict[str, Any]) -> object:
    from routers.policies import build_policy
    from routers.policy import PolicyContext

    return build_policy(name, PolicyContext(0, ids, parameters, _NoTruth(), _profile_or_none(study)))


def _build_guard(study: Study, ids: tuple[int, ...], name: str, parameters: dict[str, Any]) -> object:
    from routers.guard import GuardContext
    from routers.guards import build_guard

    return build_guard(name, GuardContext(0, ids, parameters, _profile_or_none(study)))


def _profile_or_none(study: Study) -> "EngineProfile | None":
    """The pool's profile; None where it is wrong, which `_profile` tells."""
    from replicas.profile import EngineProfile

    try:
        return EngineProfile.load(study.pool.profile).with_changes(dict(study.pool.changes))
    except ValueError:
        return None


def _named(path: tuple[str | int, ...], choice: NamedChoice, known: Iterable[str], noun: str, build: Build) -> Iterator[Problem]:
    if choice.name not in known:
        yield (*path, "name"), choice.name, f"unknown {noun}{nearest(choice.name, known)}; allowed: {', '.join(sorted(known))}"
        return
    try:
        build(choice.name, dict(choice.parameters))
    except (ValueError, TypeError) as error:
        yield (*path, "parameters"), choice.parameters, _one_line(error)


def _profile(study: Study) -> Iterator[Problem]:
    from replicas.profile import BadField, EngineProfile

    try:
        profile = EngineProfile.load(study.pool.profile)
    except ValueError as error:
        yield ("pool", "profile"), study.pool.profile, _one_line(error)
        return
    try:
        changed = profile.with_changes(dict(study.pool.changes))
    except BadField as error:
        if error.name in study.pool.changes:
            yield ("pool", "changes", error.name), error.value, error.allowed
        else:  # a field that no longer goes with a changed one
            yield ("pool", "changes"), study.pool.changes, _one_line(error)
        return
    except ValueError as error:
        yield ("pool", "changes"), study.pool.changes, _one_line(error)
        return
    most = study.workload.max_context_tokens
    if most is not None and most > changed.context_tokens:
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
    if replica_id is not None and replica_id >= study.pool.replicas:
        yield path, replica_id, f"must be null (every replica) or from 0 to {study.pool.replicas - 1}, as pool.replicas says"


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
    if choice.trace not in SOURCES and not Path(choice.trace).exists():
        allowed = (
            f"no such file or folder, nor a known trace{nearest(choice.trace, SOURCES)}; known: {', '.join(sorted(SOURCES))}"
        )
        yield ("workload", "trace"), choice.trace, allowed


def _placed(error: Exception, root: tuple[str | int, ...], value: Any) -> Problem:
    """An error `arrival.superpose[1].cv is -1; expected …` at the very key it names; at `root` where it names none."""
    said = _one_line(error)
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


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
