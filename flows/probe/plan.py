"""From a study and its C_ref to the plan of a probe, checked before anything is run. It asks for nothing."""

import json
from collections.abc import Sequence
from typing import Any

from flows.check_names import check_names
from flows.load_study import dotted
from flows.probe.pool import pool_of
from flows.probe.variants import VARIANTS, all_guards, one_arm
from flows.study import Study, StudyError
from reports.frontier import Sizes
from reports.probe.asks import PHASES
from reports.probe.plan import ProbePlan, Variant
from workloads.triggers import check_trigger


def checked(study: Study, phases: Sequence[str]) -> None:
    """StudyError in one line for what no probe could be made of."""
    for phase in phases:
        if phase not in PHASES:
            raise StudyError(f"--phases: {phase!r} is no phase; allowed: {', '.join(PHASES)}")
    if study.is_live or len(study.pools) != 1:
        raise StudyError(f"pool: {len(study.pools)} of them, live: {study.is_live}; a probe has one simulated pool")
    if study.repeats != 1:
        raise StudyError(f"repeats = {study.repeats}: a simulated pool repeats itself exactly; leave it out")
    if len(study.client) != 1:
        raise StudyError(f"client: {len(study.client)} of them; a probe takes one and varies it itself")
    if study.events:
        raise StudyError("events: a probe judges each trigger alone; leave events out and name them in probe.pulses")
    if study.trigger.kind != "spike":
        raise StudyError(f"trigger.kind = {study.trigger.kind!r}: must be spike; other kinds go to probe.pulses")
    for name in study.probe.variants or ():
        if name not in VARIANTS:
            raise StudyError(f"probe.variants: {name!r} is no variant; allowed: {', '.join(VARIANTS)}")
    guards = {guard_set.label: guard_set for guard_set in study.guards}
    for i, cure in enumerate(study.probe.cures):
        if cure.label in guards and guards[cure.label].model_dump() != all_guards_of(study, i):
            raise StudyError(f"probe.cures.{i}.label = {cure.label!r}: a set of guards has this label and holds others")
    for path, value, allowed in check_names(study.model_copy(update={"guards": all_guards(study)}), trace_known=True):
        place = dotted(path) if path[0] != "guards" else _place_of_guard(study, path)
        raise StudyError(f"{place} = {value!r}: {allowed}")
    for i, pulse in enumerate(study.probe.pulses):
        _trigger(study, i, pulse)


def all_guards_of(study: Study, place: int) -> dict[str, Any]:
    """A cure as a set of the study's own guards would be written out."""
    from flows.study import GuardSet

    return GuardSet.model_validate(study.probe.cures[place].model_dump()).model_dump()


def plan_of_probe(study: Study, c_ref_rps: float, phases: Sequence[str] = PHASES) -> ProbePlan:
    """The plan: labels, triggers with all their parameters as canonical JSON, and the variants with the arms they apply to."""
    probe = study.probe
    spike = {k: v for k, v in study.trigger.described().items() if k not in ("k", "d_s")}
    return ProbePlan(
        routers=tuple(router.named().label for router in study.routers),
        guards=tuple(guard_set.label for guard_set in study.guards),
        fractions=tuple(probe.fractions),
        c_ref_rps=c_ref_rps,
        pulses=tuple(canonical(_trigger(study, i, pulse)) for i, pulse in enumerate(probe.pulses)),
        spike=canonical({**spike, "k": probe.sizes.least, "d_s": probe.lengths_s[0]}),
        lengths_s=tuple(probe.lengths_s),
        sizes=Sizes(probe.sizes.least, probe.sizes.most, probe.sizes.count),
        variants=_variants(study),
        cures=tuple(cure.label for cure in probe.cures),
        wanted_k=probe.wanted.k,
        wanted_fraction=probe.wanted.fraction,
        steps=tuple(probe.steps),
        dwell_s=probe.dwell_s,
        phases=tuple(phase for phase in PHASES if phase in phases),
        placebo_seeds=probe.placebo_seeds,
        pulse_seeds=probe.pulse_seeds,
        frontier_tries=probe.frontier_tries,
        attribution_seeds=probe.attribution_seeds,
        cure_seeds=probe.cure_seeds,
        first_seed=study.seeds[0],
    )


def canonical(trigger: dict[str, Any]) -> str:
    """A trigger as an ask carries it."""
    return json.dumps(trigger, sort_keys=True)


def _variants(study: Study) -> tuple[Variant, ...]:
    """Those that apply to some arm, each with its arms."""
    wanted = VARIANTS if study.probe.variants is None else study.probe.variants
    found = []
    for name in wanted:
        removal = VARIANTS[name]
        arms = [
            (router.named().label, guard_set.label)
            for router in study.routers
            for guard_set in all_guards(study)
            if removal.applies(one_arm(study, router.named().label, guard_set.label))
        ]
        if arms:
            found.append(Variant(name, removal.takes_away, removal.words, tuple(arms)))
    return tuple(found)


def _trigger(study: Study, place: int, pulse: dict[str, Any]) -> dict[str, Any]:
    try:
        made = check_trigger(pulse)
    except ValueError as error:
        raise StudyError(f"probe.pulses.{place}: {error}") from error
    replica_id, last = made.get("replica_id"), pool_of(study).replicas - 1
    if made["kind"] == "placebo":
        raise StudyError(f"probe.pulses.{place}.kind = 'placebo': a pulse disturbs; placebo runs are made anyway")
    if replica_id is not None and replica_id > last:
        raise StudyError(f"probe.pulses.{place}.replica_id = {replica_id}: the pool has replicas 0 to {last}")
    return made


def _place_of_guard(study: Study, path: tuple[str | int, ...]) -> str:
    """A guard of the joined list by its own key."""
    place = int(path[1])
    if place < len(study.guards):
        return dotted(path)
    label = all_guards(study)[place].label
    cure = next(i for i, cure in enumerate(study.probe.cures) if cure.label == label)
    return dotted(("probe", "cures", cure, *path[2:]))
