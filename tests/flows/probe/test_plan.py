"""From a study to the plan of a probe; what no probe can be made of is refused in one line that names the key."""

import json
from pathlib import Path

import pytest

from flows.load_study import load_study
from flows.probe.plan import checked, plan_of_probe
from flows.study import Study, StudyError
from reports.probe.asks import PHASES
from tests.flows.probe.scenes import STUDY


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


def of(file: Path, *sets: str) -> Study:
    return load_study(str(file), list(sets))


def test_a_plan_says_arms_loads_and_spikes(file: Path) -> None:
    plan = plan_of_probe(of(file), 14.0)
    assert plan.routers == ("least_outstanding", "session_affinity", "prequal")
    assert plan.guards == ("none", "limited")
    assert plan.cures == ("throttled",)
    assert plan.phases == PHASES
    assert json.loads(plan.spike) == {"kind": "spike", "k": 1.25, "d_s": 15.0}
    assert (plan.c_ref_rps, plan.first_seed) == (14.0, 1)


def test_variants_name_the_arms_that_have_their_loop(file: Path) -> None:
    arms = {variant.name: variant.arms for variant in plan_of_probe(of(file), 14.0).variants}
    assert set(arms) == {"no_retries", "cancel", "no_cache", "more_kv", "queue_cap", "no_affinity", "no_breaker", "fresh_metrics"}
    assert arms["no_affinity"] == tuple(("session_affinity", guard) for guard in ("none", "limited", "throttled"))
    assert arms["no_breaker"] == tuple((router, "limited") for router in ("least_outstanding", "session_affinity", "prequal"))


def test_only_wanted_variants_are_offered(file: Path) -> None:
    plan = plan_of_probe(of(file, "probe.variants=[cancel]"), 14.0)
    assert [variant.name for variant in plan.variants] == ["cancel"]


def test_pulses_carry_all_their_parameters(file: Path) -> None:
    plan = plan_of_probe(of(file, "probe.pulses=[{kind: slow, replica_id: 1, d_s: 10}]"), 14.0)
    assert plan.pulses == ('{"d_s": 10.0, "factor": 2.0, "kind": "slow", "replica_id": 1}',)


def test_phases_keep_their_order(file: Path) -> None:
    assert plan_of_probe(of(file), 14.0, ["frontier", "capacity"]).phases == ("capacity", "frontier")


def test_the_preset_has_six_routers_three_guard_sets_and_every_kind_of_trigger() -> None:
    from workloads.triggers import TRIGGERS

    study = load_study("probe")
    checked(study, [])
    plan = plan_of_probe(study, 30.0)
    assert (len(plan.routers), len(plan.guards), study.pools[0].replicas) == (6, 3, 4)
    assert {json.loads(pulse)["kind"] for pulse in (plan.spike, *plan.pulses)} == set(TRIGGERS) - {"placebo"}
    assert plan.cures


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("probe.fraction=1", r"probe.fraction = 1: unknown key; did you mean 'fractions'\?; allowed: fractions, pulses"),
        ("probe.fractions=[0.9, 0.5]", r"probe.fractions = .*must ascend"),
        ("probe.sizes.least=9", r"probe.sizes = .*least 9 must be below most 8"),
        ("probe.sizes.least=1", r"probe.sizes.least = 1: must be"),
        ("probe.steps=[0.5]", r"probe.steps = "),
        ("probe.placebo_seeds=0", r"probe.placebo_seeds = 0"),
        ("probe.cures=[{label: a, guards: [queue]}, {label: a, guards: [queue]}]", r"probe.cures = .*a label twice"),
    ],
)
def test_a_bad_key_is_refused_when_the_study_is_read(file: Path, change: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        of(file, change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("probe.variants=[no_luck]", r"probe.variants: 'no_luck' is no variant; allowed: no_retries, cancel"),
        ("probe.pulses=[{kind: sneeze}]", r"probe.pulses.0: trigger.kind is 'sneeze'; allowed: placebo, spike"),
        ("probe.pulses=[{kind: placebo}]", r"probe.pulses.0.kind = 'placebo': a pulse disturbs"),
        ("probe.pulses=[{kind: pause, replica_id: 2, d_s: 5}]", r"probe.pulses.0.replica_id = 2: the pool has replicas 0 to 1"),
        ("probe.cures=[{label: x, guards: [sleep]}]", r"probe.cures.0.guards.0.name = 'sleep': unknown guard"),
        ("probe.cures=[{label: limited, guards: [queue]}]", r"probe.cures.0.label = 'limited': a set of guards has this label"),
        ("trigger={kind: pause, d_s: 5}", r"trigger.kind = 'pause': must be spike"),
        ("events=[{at_s: 1, kind: flush}]", r"events: a probe judges each trigger alone"),
        ("client=[{name: a}, {name: b}]", r"client: 2 of them; a probe takes one"),
    ],
)
def test_what_no_probe_can_be_made_of_is_refused(file: Path, change: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as caught:
        checked(of(file, change), [])
    assert "\n" not in str(caught.value)


def test_an_unknown_phase_is_refused(file: Path) -> None:
    with pytest.raises(StudyError, match="--phases: 'fronteer' is no phase; allowed: capacity, placebo"):
        checked(of(file), ["fronteer"])
