"""concurrency and token_backlog: what they refuse, what they hide, and how a queue in front holds it instead."""

import pytest

from replicas.profile import EngineProfile
from routers.factory import build_router
from routers.guard import GuardContext
from routers.guards.concurrency import ConcurrencyGuard
from tests.routers.fake_driver import FakeDriver, request, views
from tests.routers.guards.guard_stage import Guards, Stage

HOLD_ALL: tuple[str, dict[str, object]] = ("replica_queue", {"cap": None, "max_length": None})


def test_full_replicas_are_hidden_and_what_is_too_much_is_refused() -> None:
    stage = Stage([("concurrency", {"per_replica": 2})], 2)
    stage.arrive(*range(6))
    assert ([v.in_flight for v in stage.router.views], stage.status) == ([2, 2], {4: 429, 5: 429})
    stage.end(0, at_s=1.0)
    stage.arrive(6, at_s=1.0)
    assert stage.sent[-1] == 6


def test_the_pool_has_a_limit_of_its_own() -> None:
    stage = Stage([("concurrency", {"per_replica": None, "pool": 3, "status": 503})], 4)
    stage.arrive(*range(5))
    assert (stage.sent, stage.status) == ([0, 1, 2], {3: 503, 4: 503})


@pytest.mark.parametrize("limit", [{"per_replica": 1}, {"per_replica": None, "pool": 2}])
def test_a_queue_in_front_holds_what_it_would_refuse_and_lets_one_go_for_each_place(limit: dict[str, object]) -> None:
    stage = Stage([HOLD_ALL, ("concurrency", limit)], 2)
    stage.arrive(*range(6))
    assert (stage.sent, stage.held, stage.status) == ([0, 1], 4, {})
    stage.end(1, at_s=1.0)
    assert (stage.sent, stage.held) == ([0, 1, 2], 3)
    stage.end_all(at_s=2.0)
    assert (stage.sent, set(stage.status.values())) == ([0, 1, 2, 3, 4, 5], {200})


def test_a_queue_behind_comes_too_late() -> None:
    stage = Stage([("concurrency", {"per_replica": 1}), HOLD_ALL], 2)
    stage.arrive(*range(4))
    assert (stage.held, stage.status) == (0, {2: 429, 3: 429})


def test_where_no_replica_is_there_the_router_says_so() -> None:
    stage = Stage([("concurrency", {})], 1)
    stage.router.set_healthy(0, False, 0.0)
    stage.arrive(1)
    assert stage.status == {1: 503}


@pytest.mark.parametrize(
    ("guards", "status"),
    [
        ([("retry", {"backoff_s": 1.0, "jitter": 0.0}), ("concurrency", {"per_replica": 1})], 429),  # the retry is asked anew
        ([("concurrency", {"per_replica": 1}), ("retry", {"backoff_s": 1.0, "jitter": 0.0})], 503),  # not asked: nothing is shown
    ],
)
def test_a_retry_finds_its_place_taken(guards: Guards, status: int) -> None:
    stage = Stage(guards)
    stage.arrive(0)
    stage.end(0, 503)
    stage.arrive(1, at_s=0.5)
    stage.wake_until(1.0)
    assert (stage.sent, stage.status) == ([0, 1], {0: status})


def test_who_was_let_go_and_is_held_behind_finds_its_place() -> None:
    stage = Stage([("concurrency", {"per_replica": None, "pool": 2}), ("queue", {"cap": 1})])
    stage.arrive(0, 1, 2)
    assert (stage.held, stage.status) == (1, {2: 429})
    stage.end(0, at_s=1.0)
    stage.arrive(3, at_s=1.0)
    stage.end_all(at_s=2.0)
    assert stage.status == {0: 200, 1: 200, 2: 429, 3: 200}


def test_places_that_were_let_go_and_are_held_behind_are_taken() -> None:
    stage = Stage([("concurrency", {"per_replica": 1}), ("queue", {"cap": 1})], 2)
    stage.arrive(0, 1, 2)
    assert (stage.sent, stage.held, stage.status) == ([0], 1, {2: 429})


def test_who_was_let_go_is_not_turned_away_by_retries_that_never_asked() -> None:
    guard = ConcurrencyGuard(GuardContext(1, (0,), {"per_replica": None, "pool": 1}))
    guard.on_request(request(1), views(1), 0.0)  # let go, and held behind
    guard.on_sent(request(2), 0, 1.0)  # a later guard's retry
    assert guard.admits(0, 1.0)
    guard.on_sent(request(1), 0, 2.0)
    assert not guard.admits(0, 2.0)


# token_backlog


def test_prompts_wait_for_their_first_token_up_to_so_many_tokens() -> None:
    stage = Stage([("token_backlog", {"per_replica": 250})])
    stage.arrive(0, 1, 2)  # 100 each: the third overshoots, for it found 200
    stage.arrive(3)
    assert (stage.sent, stage.status) == ([0, 1, 2], {3: 503})
    stage.first_token(0, 1.0)
    stage.arrive(4, at_s=1.0)
    assert stage.sent[-1] == 4


def test_a_prompt_longer_than_the_limit_finds_an_empty_replica() -> None:
    stage = Stage([("token_backlog", {"per_replica": 250})])
    stage.arrive(0, tokens=5000)
    stage.arrive(1, tokens=1)
    assert (stage.sent, stage.status) == ([0], {1: 503})
    stage.first_token(0, 1.0)
    stage.arrive(2, tokens=5000, at_s=1.0)
    assert stage.sent == [0, 2]


def test_the_pool_s_backlog_has_its_own_limit() -> None:
    stage = Stage([("token_backlog", {"per_replica": None, "pool": 250, "status": 429})], 4)
    stage.arrive(*range(5))
    assert (stage.sent, stage.status) == ([0, 1, 2], {3: 429, 4: 429})


def test_an_end_or_a_hang_up_before_the_first_token_frees_it_too() -> None:
    stage = Stage([("token_backlog", {"per_replica": 100})])
    stage.arrive(0)
    stage.end(0, 503, 1.0)
    stage.arrive(1, at_s=1.0)
    stage.router.on_cancel(1, 2.0)
    stage.arrive(2, at_s=2.0)
    assert (stage.sent, stage.status) == ([0, 1, 2], {0: 503})


def test_a_queue_in_front_of_the_backlog_lets_one_go_at_a_time() -> None:
    stage = Stage([HOLD_ALL, ("token_backlog", {"per_replica": 100})])
    stage.arrive(*range(4))
    assert (stage.sent, stage.held) == ([0], 3)
    stage.end(0, at_s=1.0)
    assert (stage.sent, stage.held) == ([0, 1], 2)
    stage.first_token(1, 2.0)
    assert (stage.sent, stage.held) == ([0, 1, 2], 1)


def test_a_target_ttft_becomes_tokens_by_the_profile() -> None:
    """vLLM's advice: target TTFT × prefill throughput."""
    profile = EngineProfile.load("h100-vllm-llama8b")
    limit = int(1.0 / profile.step.prefill_s)
    stage = Stage([("token_backlog", {"ttft_s": 1.0})], profile=profile)
    stage.arrive(0, tokens=limit - 1)
    stage.arrive(1, tokens=1000)
    stage.arrive(2, tokens=1)
    assert (stage.sent, stage.status) == ([0, 1], {2: 503})
    with pytest.raises(ValueError, match=r"token_backlog: ttft_s = 1.0 needs the engine's profile"):
        build_router("random", {}, [("token_backlog", {"ttft_s": 1.0})], views(1), FakeDriver(), 1)
