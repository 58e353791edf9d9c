"""session_affinity: home while it is fast enough, else the fewest tokens; with and without an engine profile."""

from dataclasses import replace

import pytest

from replicas.profile import EngineProfile
from routers.policies import build_policy
from routers.policies.session_affinity import SessionAffinity
from routers.policy import Decision, RoutedRequest, TryEnd
from tests.routers.fake_driver import context, request, views

PROFILE = EngineProfile.load("h100-vllm-llama8b")


def affine(n: int = 2, profile: EngineProfile | None = None, **parameters: object) -> SessionAffinity:
    policy = build_policy("session_affinity", replace(context(n, 1, **parameters), profile=profile))
    assert isinstance(policy, SessionAffinity)
    return policy


def send(policy: SessionAffinity, asked: RoutedRequest, n: int = 2) -> Decision:
    decision = policy.choose(asked, views(n), 0.0)
    policy.on_sent(asked, decision, 0.0)
    return decision


def finish(policy: SessionAffinity, asked: RoutedRequest, decision: Decision, output_tokens: int = 50) -> None:
    policy.on_first_token(asked, decision, 1.0)
    policy.on_end(asked, decision, TryEnd(True, 200, decision.replica_id, 1, True, output_tokens), 2.0)


def test_a_new_session_goes_where_the_fewest_tokens_are_and_stays() -> None:
    policy = affine()
    first = request(1, (1, 500), session=1)
    decision = send(policy, first)
    assert (decision.replica_id, decision.reason) == (0, "new session: fewest tokens")
    assert send(policy, request(2, session=2)).replica_id == 1
    finish(policy, first, decision)
    again = send(policy, request(3, (1, 500), (2, 100), session=1))
    assert (again.replica_id, again.reason) == (0, "session's replica")


@pytest.mark.parametrize(
    ("backlog_tokens", "stays"),
    [
        # in flight there: the backlog's prompt, and 10 output tokens at most; the session's prompt of 500 is new but for 400:
        # (backlog + 10 + 100) / 2000 a second against 2 s
        (3890, True),
        (3891, False),
    ],
)
def test_without_a_profile_the_bound_is_on_tokens_in_flight(backlog_tokens: int, stays: bool) -> None:
    policy = affine()
    first = request(1, (1, 350), session=1, max_tokens=10)
    finish(policy, first, send(policy, first))  # 350 + 50 answered: 400 known there
    policy.on_sent(request(2, (9, backlog_tokens), session=9, max_tokens=10), Decision(0), 3.0)
    decision = policy.choose(request(3, (1, 350), (2, 150), session=1), views(2), 3.0)
    assert (decision.replica_id == 0) is stays
    assert decision.reason == ("session's replica" if stays else "session's replica too slow: fewest tokens")


def test_with_a_profile_the_bound_is_on_the_predicted_ttft() -> None:
    """22 µs a token: 50,000 queued tokens are 1.1 s of prefill and more, 500,000 ten times as much."""
    policy = affine(profile=PROFILE)
    first = request(1, (1, 500), session=1)
    finish(policy, first, send(policy, first))
    policy.on_sent(request(2, (9, 50_000), session=9), Decision(0), 3.0)
    assert policy.choose(request(3, (1, 500), session=1), views(2), 3.0).replica_id == 0
    policy.on_sent(request(4, (8, 450_000), session=8), Decision(0), 3.0)
    assert policy.choose(request(5, (1, 500), session=1), views(2), 3.0).replica_id == 1


def test_who_has_spilled_lives_where_it_went() -> None:
    policy = affine(tokens_per_s=1.0)  # everything is too slow as soon as anything is under way
    first = request(1, session=1)
    finish(policy, first, send(policy, first))
    policy.on_sent(request(2, session=9), Decision(0), 0.0)
    assert send(policy, request(3, session=1)).replica_id == 1
    assert policy._table.replica_of(1) == 1


def test_a_session_whose_try_failed_is_not_thought_to_be_cached() -> None:
    policy = affine()
    asked = request(1, (1, 500), session=1)
    decision = send(policy, asked)
    assert policy._table.tokens_of(1) == 500
    policy.on_end(asked, decision, TryEnd(False, 503, decision.replica_id, 1), 1.0)
    assert policy._table.tokens_of(1) == 0
    assert len(policy._books) == 0


def test_home_away_and_pool_changes() -> None:
    policy = affine(3)
    home = send(policy, request(1, session=1), 3).replica_id
    decision = policy.choose(request(2, session=1), [v for v in views(3) if v.replica_id != home], 0.0)
    assert decision.reason == "session's replica is away: fewest tokens"
    policy.on_pool(tuple(i for i in range(3) if i != home), 1.0)
    assert policy._table.replica_of(1) is None
    assert len(policy._books) == 0
