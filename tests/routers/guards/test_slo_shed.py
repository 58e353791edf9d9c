"""slo_shed: what the profile predicts, and who is refused for it."""

import pytest

from replicas.profile import EngineProfile
from routers.factory import build_router
from routers.forecasts.ttft_forecast import TtftForecast
from tests.routers.fake_driver import FakeDriver, views
from tests.routers.guards.guard_stage import Stage

H100 = EngineProfile.load("h100-vllm-llama8b")  # prefills 8,192 tokens in about 0.19 s


def forecast(**changes: object) -> TtftForecast:
    return TtftForecast(H100.with_changes(dict(changes)), 256.0)


def shed(n: int = 1, **parameters: object) -> Stage:
    return Stage([("slo_shed", parameters)], n, profile=H100)


def test_an_idle_replica_takes_the_front_end_and_one_step() -> None:
    step_s = H100.step.seconds(1000, 500, 0, 0)
    assert forecast().seconds(1000, 0, 0, 0) == pytest.approx(step_s + H100.frontend_s + H100.frontend_s_per_token * 1000)


def test_what_is_in_front_takes_whole_steps() -> None:
    one, ten = forecast().seconds(1000, 0, 0, 0), forecast().seconds(1000, 9 * 8192, 0, 0)
    assert ten == pytest.approx(one + 9 * H100.step.seconds(8192, 500, 0, 0), rel=0.1)


def test_a_batch_that_decodes_makes_each_step_longer() -> None:
    assert forecast().seconds(1000, 0, 200, 200_000) > forecast().seconds(1000, 0, 0, 0) + 0.005


def test_beyond_the_batch_it_waits_for_answers_to_end() -> None:
    """1 place of 256 is free after 1/256 of an answer's time, 100 places after 100/256."""
    at_the_limit = forecast().seconds(100, 0, 255, 100_000)
    answer_s = 256 * H100.step.seconds(0, 0.0, 256, 100_000)
    assert forecast().seconds(100, 0, 355, 100_000) == pytest.approx(at_the_limit + 100 / 256 * answer_s, rel=0.02)


def test_it_learns_how_long_answers_are_and_how_much_is_cached() -> None:
    learner = forecast()
    before_s = learner.seconds(8000, 0, 0, 0), learner.seconds(8000, 0, 400, 0)
    for _ in range(500):
        learner.learn(8000, 16, 7000)
    after_s = learner.seconds(8000, 0, 0, 0), learner.seconds(8000, 0, 400, 0)
    assert after_s[0] < before_s[0] / 2
    assert after_s[1] - after_s[0] < (before_s[1] - before_s[0]) / 8
    learner.learn(8000, 16, None)  # a replica that does not tell changes nothing of it
    assert learner.seconds(8000, 0, 0, 0) == pytest.approx(after_s[0])


def test_who_would_be_late_everywhere_is_refused_at_once() -> None:
    stage = shed(2, ttft_s=1.0)
    stage.arrive(*range(12), tokens=8192)  # a second holds four prompts a replica
    assert ([v.in_flight for v in stage.router.views], len(stage.status)) == ([4, 4], 4)
    assert set(stage.status.values()) == {429}
    stage.first_token(0, 0.2)
    stage.arrive(20, at_s=0.2, tokens=8192)
    assert stage.sent[-1] == 20


@pytest.mark.parametrize(("deadline_s", "sent"), [(10.1, []), (10.5, [1])])
def test_its_own_deadline_counts_too(deadline_s: float, sent: list[int]) -> None:
    stage = shed(ttft_s=None)
    stage.arrive(1, at_s=10.0, tokens=8192, deadline_s=deadline_s)
    assert stage.sent == sent


@pytest.mark.parametrize(("margin", "sent"), [(0.0, 50), (1.0, 4), (2.0, 2)])
def test_the_margin_makes_it_careful(margin: float, sent: int) -> None:
    stage = shed(ttft_s=1.0, margin=margin)
    stage.arrive(*range(50), tokens=8192)
    assert len(stage.sent) == sent


def test_before_a_queue_it_judges_at_arrival_and_behind_it_when_the_turn_comes() -> None:
    queue: tuple[str, dict[str, object]] = ("queue", {"cap": 1})
    before = Stage([("slo_shed", {"ttft_s": 1.0}), queue], profile=H100)
    behind = Stage([queue, ("slo_shed", {"ttft_s": 1.0})], profile=H100)
    for stage in (before, behind):
        stage.arrive(0, tokens=8192)
        stage.arrive(1, tokens=8192, deadline_s=3.0)  # it could be served now, were there a place
        stage.end(0, at_s=2.9)
    assert (before.sent, before.status) == ([0, 1], {0: 200})
    assert (behind.sent, behind.status) == ([0], {0: 200, 1: 429})


def test_without_a_replica_it_says_nothing() -> None:
    stage = shed()
    stage.router.set_healthy(0, False, 0.0)
    stage.arrive(1)
    assert stage.status == {1: 503}


def test_without_a_profile_it_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="slo_shed needs the pool's engine profile"):
        build_router("random", {}, [("slo_shed", {})], views(1), FakeDriver(), 1)


def test_a_prompt_whose_try_failed_waits_nowhere() -> None:
    stage = Stage([("retry", {"backoff_s": 5.0}), ("slo_shed", {"ttft_s": 1.0})], profile=H100)
    stage.arrive(*range(4), tokens=8192)
    for rid in range(4):
        stage.end(rid, 503, 0.1)
    stage.arrive(*range(10, 14), at_s=0.2, tokens=8192)  # while the others wait for their retry
    assert stage.sent == [0, 1, 2, 3, 10, 11, 12, 13]


def test_one_replica_that_is_in_time_is_enough() -> None:
    stage = shed(2, ttft_s=1.0)
    stage.router.set_healthy(1, False, 0.0)
    stage.arrive(*range(6), tokens=8192)
    assert (len(stage.sent), len(stage.status)) == (4, 2)
    stage.router.set_healthy(1, True, 0.0)
    stage.arrive(10, tokens=8192)
    assert stage.driver.routes[-1] == 1
