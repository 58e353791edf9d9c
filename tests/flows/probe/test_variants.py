"""Each variant takes one loop away and leaves all else as it is; it applies to the arms that have the loop."""

from typing import Any

import pytest

from flows.load_study import apply_set
from flows.probe.pool import profile_of
from flows.probe.variants import VARIANTS, changed, one_arm
from flows.study import Study
from tests.flows.probe.scenes import study

TAKEN = {
    "no_retries": {"client"},
    "cancel": {"client"},
    "no_cache": set(),
    "more_kv": {"pool"},
    "queue_cap": {"pool"},
    "no_affinity": {"routers"},
    "no_breaker": {"guards"},
    "fresh_metrics": {"observation"},
    "no_pd_pin": {"pool"},
}


def arm(router: str = "session_affinity", guard: str = "limited", **changes: Any) -> Study:
    return one_arm(study(), router, guard).model_copy(update=changes)


def test_every_variant_has_its_row_here() -> None:
    assert TAKEN.keys() == VARIANTS.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_its_own_key_alone(name: str) -> None:
    before = arm()
    after = changed(before, name).model_dump()
    assert {key for key, value in before.model_dump().items() if after[key] != value} == TAKEN[name]


def test_retries_go_from_client_and_router() -> None:
    retrying = {"label": "r", "guards": [{"name": "retry", "parameters": {}}, {"name": "timeout", "parameters": {}}]}
    before = arm(guards=[type(study().guards[0]).model_validate(retrying)])
    after = changed(before, "no_retries")
    assert after.client[0].max_attempts == 1
    assert [guard.name for guard in after.guards[0].guards] == ["timeout"]


def test_cancelling_ends_dead_work_at_the_router_too() -> None:
    orphaning = {"label": "r", "guards": [{"name": "timeout", "parameters": {"first_token_s": 5, "orphan": True}}]}
    before = arm(guards=[type(study().guards[0]).model_validate(orphaning)])
    after = changed(before, "cancel")
    assert after.client[0].cancel
    assert after.guards[0].guards[0].parameters == {"first_token_s": 5, "orphan": False}


def test_the_queue_limit_leaves_room_for_the_batch() -> None:
    profile = profile_of(changed(arm(), "queue_cap"))
    assert profile.max_queued == 24 + 12, "vLLM's limit counts running requests"


def test_a_breaker_goes_and_the_other_guards_stay() -> None:
    assert [guard.name for guard in changed(arm(), "no_breaker").guards[0].guards] == ["concurrency"]


def test_a_router_keeps_its_label_without_affinity() -> None:
    router = changed(arm(), "no_affinity").routers[0].named()
    assert (router.name, router.label) == ("least_outstanding", "session_affinity")


@pytest.mark.parametrize(
    ("name", "router", "guard", "applies"),
    [
        ("no_affinity", "session_affinity", "none", True),
        ("no_affinity", "least_outstanding", "none", False),
        ("no_breaker", "prequal", "limited", True),
        ("no_breaker", "prequal", "none", False),
        ("fresh_metrics", "prequal", "none", True),
        ("fresh_metrics", "session_affinity", "none", False),
        ("no_pd_pin", "prequal", "none", False),
        ("cancel", "prequal", "none", True),
        ("queue_cap", "prequal", "none", True),
        ("no_retries", "prequal", "none", True),
    ],
)
def test_a_variant_applies_where_its_loop_is(name: str, router: str, guard: str, applies: bool) -> None:
    assert VARIANTS[name].applies(one_arm(study(), router, guard)) is applies


def test_nothing_is_taken_from_a_client_that_cancels_and_never_retries() -> None:
    data = study().model_dump()
    for change in ("client.0.cancel=true", "client.0.max_attempts=1"):
        apply_set(data, change)
    patient = one_arm(Study.model_validate(data), "prequal", "none")
    assert not VARIANTS["cancel"].applies(patient)
    assert not VARIANTS["no_retries"].applies(patient)
