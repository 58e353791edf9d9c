"""Names and parameters from a study: what is built, and the one line for what is not allowed."""

import re
from dataclasses import replace
from typing import Any

import pytest

from replicas.profile import EngineProfile
from reports.cell_facts import HOLDING_POLICIES
from routers.factory import build_router
from routers.guards import GUARDS, build_guard
from routers.policies import POLICIES, build_policy
from routers.policy import PolicyContext
from tests.routers.fake_driver import FakeDriver, guard_context, views
from tests.routers.policies.test_oracle_and_pairs import Known


def test_every_policy_and_guard_builds_with_its_defaults() -> None:
    profile = EngineProfile.load("h100-vllm-llama8b")
    for name in POLICIES:
        context = PolicyContext(1, (0, 1), truth=Known(0.0, 0.0), profile=profile)
        assert isinstance(build_policy(name, context), POLICIES[name])
    for name in GUARDS:
        assert isinstance(build_guard(name, replace(guard_context(), profile=profile)), GUARDS[name])


def test_reports_know_which_rules_have_a_queue_of_their_own() -> None:
    profile = EngineProfile.load("h100-vllm-llama8b")
    built = {name: build_policy(name, PolicyContext(1, (0, 1), truth=Known(0.0, 0.0), profile=profile)) for name in POLICIES}
    assert {name for name, policy in built.items() if policy.own_guard() is not None} == HOLDING_POLICIES


def test_a_router_is_built_from_names() -> None:
    guards: list[tuple[str, dict[str, object]]] = [("retry", {"max_attempts": 2}), ("breaker", {})]
    router = build_router("round_robin", {}, guards, [*reversed(views(3))], FakeDriver(), 1)
    assert isinstance(router.policy, POLICIES["round_robin"])
    assert [type(g) for g in router.guards] == [GUARDS["retry"], GUARDS["breaker"]]
    assert [v.replica_id for v in router.views] == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("nearest", {}, "unknown policy 'nearest'; allowed: aibrix_prefix, "),
        ("random", {"seed": 1}, "random: unknown parameter 'seed'; allowed: none"),
        ("cache_aware", {"treshold": 0.3}, "cache_aware: unknown parameter 'treshold'; allowed: defaults, threshold, abs, rel"),
        ("cache_aware", {"threshold": "high"}, "cache_aware: threshold = 'high' is not allowed; it must be a number or null"),
        ("cache_aware", {"threshold": 1.5}, "cache_aware: threshold = 1.5 is not allowed; it must be from 0.0 to 1.0"),
        ("cache_aware", {"defaults": "new"}, "cache_aware: defaults = 'new' is not allowed; it must be one of: wheel, smg"),
        ("consistent_hash", {"virtual_nodes": 0}, "virtual_nodes = 0 is not allowed; it must be at least 1"),
        ("consistent_hash", {"virtual_nodes": 1.5}, "virtual_nodes = 1.5 is not allowed; it must be a whole number"),
        ("consistent_hash", {"virtual_nodes": True}, "virtual_nodes = True is not allowed; it must be a whole number"),
        ("prequal", {"expiry_s": float("nan")}, "prequal: expiry_s = nan is not allowed; it must be a number"),
    ],
)
def test_a_wrong_policy_is_one_clear_line(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        build_policy(name, PolicyContext(1, (0, 1, 2), parameters))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("limit", {}, "unknown guard 'limit'; allowed: adaptive_concurrency, breaker, client_throttle"),
        ("retry", {"attempts": 3}, "retry: unknown parameter 'attempts'; allowed: max_attempts, backoff_s"),
        ("retry", {"max_attempts": 0}, "retry: max_attempts = 0 is not allowed; it must be at least 1"),
        ("retry", {"exclude": "self"}, "retry: exclude = 'self' is not allowed; it must be one of: none, last, tried"),
        ("retry", {"retry_on": [503, "x"]}, "retry_on = [503, 'x'] is not allowed; it must be a list of whole numbers"),
        ("queue", {"order": "random"}, "queue: order = 'random' is not allowed; it must be one of: fifo, lifo"),
        ("replica_queue", {"cap": 0}, "replica_queue: cap = 0 is not allowed; it must be at least 1"),
        ("queue", {"full_status": 200}, "queue: full_status = 200 is not allowed; it must be from 400 to 599"),
        ("breaker", {"count_429": 1}, "breaker: count_429 = 1 is not allowed; it must be true or false"),
    ],
)
def test_a_wrong_guard_is_one_clear_line(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        build_guard(name, guard_context(**parameters))
    assert "\n" not in str(error.value)


def test_roles_and_policy_must_fit() -> None:
    pairs = views(2, ["prefill", "decode"])
    with pytest.raises(ValueError, match="'random' cannot serve a pool of prefill and decode replicas; use pd_pair"):
        build_router("random", {}, [], pairs, FakeDriver(), 1)
    with pytest.raises(ValueError, match="'pd_pair' needs a pool with prefill and decode replicas"):
        build_router("pd_pair", {}, [], views(2), FakeDriver(), 1)
    with pytest.raises(ValueError, match="at least one replica"):
        build_router("random", {}, [], [], FakeDriver(), 1)
    build_router("pd_pair", {}, [], pairs, FakeDriver(), 1)
