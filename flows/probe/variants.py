"""The loops that can be taken away from an arm, by name: pure changes of a one-arm study. What they restore it does not know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flows.probe.pool import pool_of, profile_of
from flows.study import Client, GuardSet, NamedChoice, Pool, Study

AFFINITY = frozenset(
    {
        "consistent_hash",
        "consistent_hash_bounded",
        "consistent_hash_two_choices",
        "rendezvous",
        "maglev",
        "sticky_least_sessions",
        "session_affinity",
        "cache_aware",
        "prefix_hash",
        "aibrix_prefix",
        "epp_weighted",
        "kv_cost",
        "lmetric",
        "preble",
        "dlpm",
    }
)
"""Policies that send a session or a prefix to where it was before."""
OBSERVING = frozenset({"power_of_two_stale", "join_idle_queue", "prequal", "drain_time", "epp_weighted"})
"""Policies that decide by polled gauges, which are news of the past."""
MUCH_KV = 4
FRESH_S = 0.05


@dataclass(frozen=True, slots=True)
class Removal:
    """`takes_away` is the cause it speaks for, `words` the change in words; `applies` says whether an arm has the loop at all."""

    takes_away: str
    words: str
    applies: Callable[[Study], bool]
    change: Callable[[Study], Study]


def one_arm(study: Study, router: str, guard: str) -> Study:
    """The study with this router and guard set alone, by label; those of `probe.cures` count as guard sets."""
    routers = [choice for choice in study.routers if choice.named().label == router]
    guards = [guard_set for guard_set in all_guards(study) if guard_set.label == guard]
    for what, label, found in (("router", router, routers), ("guard set", guard, guards)):
        if not found:
            raise ValueError(f"the probe's study has no {what} {label!r}")
    return study.model_copy(update={"routers": routers[:1], "guards": guards[:1]})


def all_guards(study: Study) -> list[GuardSet]:
    """The study's guard sets, then its cures, each label once."""
    cures = [GuardSet.model_validate(cure.model_dump()) for cure in study.probe.cures]
    known = {guard_set.label for guard_set in study.guards}
    return [*study.guards, *(cure for cure in cures if cure.label not in known)]


def changed(study: Study, variant: str) -> Study:
    """The one-arm study without that loop; "" leaves it as it is. ValueError for a name that is no variant."""
    if not variant:
        return study
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; allowed: {', '.join(VARIANTS)}")
    return VARIANTS[variant].change(study)


def prefix_reuse(variant: str) -> bool:
    """False for the variant whose prompts share no prefix with any other."""
    return variant != "no_cache"


def _client(study: Study, **changes: Any) -> Study:
    return study.model_copy(update={"client": [Client.model_validate({**c.model_dump(), **changes}) for c in study.client]})


def _pool(study: Study, **changes: Any) -> Study:
    pool = pool_of(study)
    pool = Pool.model_validate({**pool.model_dump(), "changes": {**pool.changes, **changes}})
    return study.model_copy(update={"pool": pool})


def _guards(study: Study, change: Callable[[NamedChoice], NamedChoice | None]) -> Study:
    """Every guard changed, or gone (None)."""
    sets = [
        GuardSet(label=one.label, guards=[made for guard in one.guards if (made := change(guard)) is not None])
        for one in study.guards
    ]
    return study.model_copy(update={"guards": sets})


def _without(study: Study, names: frozenset[str]) -> Study:
    return _guards(study, lambda guard: None if guard.name in names else guard)


def _has(study: Study, *names: str) -> bool:
    return any(guard.name in names for guard_set in study.guards for guard in guard_set.guards)


def _no_retries(study: Study) -> Study:
    return _without(_client(study, max_attempts=1), frozenset({"retry"}))


def _retries(study: Study) -> bool:
    return _has(study, "retry") or any(c.max_attempts is None or c.max_attempts > 1 for c in study.client)


def _orphans(guard: NamedChoice) -> bool:
    return guard.name == "timeout" and bool(guard.parameters.get("orphan"))


def _cancel(study: Study) -> Study:
    def aborting(guard: NamedChoice) -> NamedChoice:
        return guard.model_copy(update={"parameters": {**guard.parameters, "orphan": False}}) if _orphans(guard) else guard

    return _guards(_client(study, cancel=True), aborting)


def _leaves_dead_work(study: Study) -> bool:
    return any(not c.cancel for c in study.client) or any(_orphans(g) for s in study.guards for g in s.guards)


def _queue_cap(study: Study) -> Study:
    """At most half a batch waits at each replica: what waits longer than that is refused at once."""
    profile = profile_of(study)
    waiting = max(4, profile.max_running // 2)
    return _pool(study, max_queued=waiting + (profile.max_running if profile.scheduler == "vllm" else 0))


def _no_affinity(study: Study) -> Study:
    routers = [NamedChoice(name="least_outstanding", label=r.named().label) for r in study.routers]
    return study.model_copy(update={"routers": routers})


def _observed(study: Study) -> bool:
    return study.observation.age_s > FRESH_S and any(r.name in OBSERVING for r in study.routers)


def _fresh(study: Study) -> Study:
    rule = study.observation.model_copy(update={"age_s": FRESH_S, "jitter_s": 0.0, "loss": 0.0})
    return study.model_copy(update={"observation": rule})


VARIANTS: Mapping[str, Removal] = {
    "no_retries": Removal("retry amplification", "without any retries", _retries, _no_retries),
    "cancel": Removal("dead work", "with timed-out requests cancelled in the engine", _leaves_dead_work, _cancel),
    "no_cache": Removal(
        "prefix-cache collapse", "with no prefix to reuse, before the burst as after it", lambda s: True, lambda s: s
    ),
    "more_kv": Removal(
        "KV thrash",
        f"with {MUCH_KV} times the KV memory",
        lambda s: True,
        lambda s: _pool(s, kv_blocks=MUCH_KV * profile_of(s).kv_blocks),
    ),
    "queue_cap": Removal(
        "unbounded queue", "with a queue limit in the engines", lambda s: profile_of(s).max_queued is None, _queue_cap
    ),
    "no_affinity": Removal(
        "hot replica",
        "with every request sent to the least loaded replica",
        lambda s: s.routers[0].name in AFFINITY,
        _no_affinity,
    ),
    "no_breaker": Removal(
        "breaker lock-out",
        "without circuit breaker and ejection",
        lambda s: _has(s, "breaker", "ejection"),
        lambda s: _without(s, frozenset({"breaker", "ejection"})),
    ),
    "fresh_metrics": Removal("herding on stale metrics", f"with gauges never older than {FRESH_S:g} s", _observed, _fresh),
    "no_pd_pin": Removal(
        "PD pinning",
        "with the KV of a prefill given up at once",
        lambda s: bool(pool_of(s).roles) and profile_of(s).kv_pin_timeout_s > 0,
        lambda s: _pool(s, kv_pin_timeout_s=0.0),
    ),
}
