"""adaptive_concurrency: the two formulas by hand, and both against a replica that slows down as it fills."""

from heapq import heappop, heappush

import pytest

from routers.guard import GuardContext, TryEnd
from routers.guards.adaptive_concurrency import AdaptiveConcurrencyGuard
from routers.limits.envoy_gradient import EnvoyGradient, EnvoyGradientSettings
from routers.limits.gradient2 import Gradient2, Gradient2Settings
from tests.routers.fake_driver import request
from tests.routers.guards.guard_stage import Guards, Stage

EACH = Gradient2Settings(window_s=0.0)  # every sample is a window


def fed(limiter: Gradient2, *latencies_s: float, in_flight: int = 200) -> float:
    for latency_s in latencies_s:
        limiter.sample(latency_s, in_flight, 0.0)
    return limiter._limit


@pytest.mark.parametrize(
    ("latencies_s", "limit"),
    [
        ([1.0], 20.8),  # no slower than ever: 0.8 · 20 + 0.2 · (20 + 4)
        ([1.0, 1.0], 21.6),
        ([1.0, 1.4], 21.6),  # long = 1.2: 1.5 · 1.2 / 1.4 > 1, within the tolerance
        ([1.0, 6.0], 21.08),  # long = 3.5: gradient 0.875; 0.8 · 20.8 + 0.2 · (18.2 + 4)
        ([1.0, 16.0], 20.755),  # long = 8.5: 0.797
    ],
)
def test_gradient2_by_hand(latencies_s: list[float], limit: float) -> None:
    assert fed(Gradient2(EACH), *latencies_s) == pytest.approx(limit)


@pytest.mark.parametrize(("latency_s", "limit"), [(1.0, 100.8), (2.0, 95.85), (100.0, 90.8)])
def test_gradient2_shrinks_by_at_most_a_tenth_a_window(latency_s: float, limit: float) -> None:
    """long = 1.0 after twenty windows; 100 · (0.8 + 0.2 · gradient) + 0.8, the gradient is never below 0.5."""
    limiter = Gradient2(Gradient2Settings(window_s=0.0))
    fed(limiter, *[1.0] * 20)
    limiter._limit = 100.0
    assert fed(limiter, latency_s) == pytest.approx(limit, abs=0.05)


def test_gradient2_s_long_mean_is_plain_at_first_and_then_exponential_over_600() -> None:
    limiter = Gradient2(EACH)
    fed(limiter, *[1.0] * 9, 2.0)
    assert limiter._long_s == pytest.approx(1.1)
    fed(limiter, 2.0)
    assert limiter._long_s == pytest.approx(1.1 + 0.9 * 2 / 601)


def test_gradient2_never_leaves_its_limits() -> None:
    assert fed(Gradient2(EACH), *[1.0] * 2000) == 200
    assert fed(Gradient2(EACH), *[1.0, 50.0] * 500) == 20


def test_gradient2_does_not_grow_where_the_limit_is_not_used() -> None:
    assert fed(Gradient2(EACH), *[1.0] * 10, in_flight=9) == 20
    assert fed(Gradient2(EACH), *[1.0] * 10, in_flight=10) > 20


def test_gradient2_forgets_a_long_overload_faster_than_its_mean_would() -> None:
    limiter = Gradient2(EACH)
    fed(limiter, *[10.0] * 50)
    fed(limiter, *[1.0] * 20)
    assert limiter._long_s < 10.0 * 0.95**15


def test_a_window_is_a_second_and_ten_samples_or_it_is_thrown_away() -> None:
    limiter = Gradient2(Gradient2Settings())
    limiter.sample(1.0, 50, 0.5)  # opens the first window, alone: thrown away
    for _ in range(9):
        limiter.sample(1.0, 50, 1.0)
    assert limiter._limit == 20
    limiter.sample(1.0, 50, 1.6)
    assert limiter._limit == pytest.approx(20.8)
    for _ in range(8):
        limiter.sample(9.0, 50, 2.0)
    limiter.sample(9.0, 50, 2.7)
    assert limiter._limit == pytest.approx(20.8)


def measured(minimum_s: float = 1.0, **settings: float) -> EnvoyGradient:
    """Its minimum is known at 10 s."""
    limiter = EnvoyGradient(EnvoyGradientSettings(**settings))  # type: ignore[arg-type]
    for _ in range(50):
        limiter.sample(minimum_s, 3, 10.0)
    return limiter


def test_envoy_lets_three_through_until_fifty_have_shown_the_minimum() -> None:
    limiter = EnvoyGradient(EnvoyGradientSettings())
    for _ in range(49):
        limiter.sample(1.0, 3, 10.0)
    assert (limiter.limit(10.0), limiter._measuring) == (3, True)
    limiter.sample(1.0, 3, 10.0)
    assert (limiter._measuring, limiter._minimum_s) == (False, 1.0)


@pytest.mark.parametrize(
    ("sampled_s", "limit"),
    [
        (1.25, 110),  # as expected with the buffer: 100 + √100
        (0.1, 214),  # at most twice: 200 + √200
        (2.5, 57),  # twice as slow: 50 + √50
        (99.0, 57),  # at most half
    ],
)
def test_envoy_s_new_limit_by_hand(sampled_s: float, limit: int) -> None:
    limiter = measured()
    limiter._limit = 100
    limiter.sample(sampled_s, 100, 10.5)
    limiter.sample(sampled_s, 100, 10.6)
    assert limiter.limit(10.9) == 100
    assert limiter.limit(11.0) == limit


def test_envoy_measures_again_after_a_minute_and_heeds_only_what_was_sent_since() -> None:
    limiter = measured()
    limiter._limit = 100
    assert limiter.limit(69.9) == 100
    assert limiter.limit(70.0) == 3
    for _ in range(60):
        limiter.sample(5.0, 3, 71.0)  # sent at 66 s
    assert limiter.limit(71.0) == 3
    for _ in range(50):
        limiter.sample(2.0, 3, 73.0)
    assert (limiter.limit(73.0), limiter._minimum_s) == (100, 2.0)


def test_envoy_measures_again_after_five_windows_at_the_least() -> None:
    limiter = measured(least=3)
    limits = []
    for window in range(7):
        limiter.sample(9.0, 3, 20.0 + 1.5 * window)
        limits.append(limiter._measuring)
    assert limits[0] is False
    assert limits[-1] is True


class Replica:
    """Serves `servers` at once in `service_s` each and queues the rest; a latency is what the last one in line sees."""

    def __init__(self, stage: Stage, servers: int, service_s: float) -> None:
        self.stage, self.free_s, self.service_s = stage, [0.0] * servers, service_s
        self.ends: list[tuple[float, int]] = []
        self.latencies_s: list[float] = []

    def arrive(self, rid: int, now_s: float) -> None:
        sent = len(self.stage.driver.sent)
        self.stage.arrive(rid, at_s=now_s)
        if len(self.stage.driver.sent) > sent:
            end_s = max(now_s, heappop(self.free_s)) + self.service_s
            heappush(self.free_s, end_s)
            heappush(self.ends, (end_s, rid))
            self.latencies_s.append(end_s - now_s)

    def end_until(self, now_s: float) -> None:
        while self.ends and self.ends[0][0] <= now_s:
            end_s, rid = heappop(self.ends)
            self.stage.first_token(rid, end_s)
            self.stage.end(rid, at_s=end_s)


@pytest.mark.parametrize(
    ("guards", "slowest_s"),
    [
        ([], 25.0),
        ([("adaptive_concurrency", {})], 2.0),
        ([("adaptive_concurrency", {"algorithm": "envoy"})], 2.0),
        ([("adaptive_concurrency", {"per": "replica"})], 2.0),
    ],
)
def test_at_twice_its_capacity_a_replica_answers_late_or_some_are_refused(guards: Guards, slowest_s: float) -> None:
    """40 servers of 0.4 s: 100 a second. At 200 a second for a minute its line grows to 30 s, unless the limit holds it."""
    latencies_s, served = at_twice_its_capacity(guards)
    assert (latencies_s[-1] > 25.0) if not guards else (latencies_s[-1] < slowest_s)
    assert served > 4500, "and it is kept busy"


def test_envoy_s_window_must_be_longer_than_what_it_measures() -> None:
    """Of 0.1 s, before answers that take 0.4 s: up, down, and a third of the capacity is gone."""
    _, served = at_twice_its_capacity([("adaptive_concurrency", {"algorithm": "envoy", "window_s": 0.1})])
    assert served < 4000


def at_twice_its_capacity(guards: Guards) -> tuple[list[float], int]:
    """The last 1000 latencies in ascending order, and how many of 6000 possible ones were served."""
    stage = Stage(guards)
    replica = Replica(stage, 40, 0.4)
    for rid in range(12_000):
        now_s = rid / 200
        replica.end_until(now_s)
        replica.arrive(rid, now_s)
    return sorted(replica.latencies_s[-1000:]), sum(end.ok for end in stage.driver.answers.values())


def guard(**parameters: object) -> AdaptiveConcurrencyGuard:
    return AdaptiveConcurrencyGuard(GuardContext(1, (0, 1), parameters))


@pytest.mark.parametrize(("signal", "sampled"), [("ttft", [2.0]), ("e2e", [9.0])])
def test_the_first_token_or_the_end_is_the_latency(signal: str, sampled: list[float]) -> None:
    g, seen = guard(signal=signal), []
    assert g._pool is not None
    g._pool.sample = lambda latency_s, in_flight, now_s: seen.append(latency_s)  # type: ignore[method-assign]
    g.on_request(request(1), [], 1.0)
    g.on_sent(request(1), 0, 1.0)
    g.on_first_token(request(1), 0, 3.0)
    g.on_end(request(1), TryEnd(True, 200, 0, 1, True), 10.0)
    g.on_done(request(1), 10.0)
    assert seen == sampled


def test_a_try_that_failed_is_no_sample() -> None:
    g, seen = guard(signal="e2e"), []
    assert g._pool is not None
    g._pool.sample = lambda latency_s, in_flight, now_s: seen.append(latency_s)  # type: ignore[method-assign]
    g.on_sent(request(1), 0, 1.0)
    g.on_end(request(1), TryEnd(False, 503, 0, 1), 1.1)
    g.on_sent(request(1), 1, 2.0)  # the retry has its own time
    g.on_end(request(1), TryEnd(True, 200, 1, 2), 5.0)
    assert seen == [3.0]


def test_a_pair_s_time_runs_from_its_prefill() -> None:
    g, seen = guard(), []
    assert g._pool is not None
    g._pool.sample = lambda latency_s, in_flight, now_s: seen.append(latency_s)  # type: ignore[method-assign]
    g.on_sent(request(1), 0, 1.0)
    g.on_end(request(1), TryEnd(True, 200, 0, 1), 2.0)
    g.on_sent(request(1), 1, 2.0)
    g.on_first_token(request(1), 1, 2.5)
    assert seen == [1.5]


def test_a_replica_that_leaves_takes_its_limit_with_it() -> None:
    g = guard(per="replica", initial=30)
    assert (g.limit_of(0, 0.0), g.limit_of_pool(0.0)) == (30, float("inf"))
    g.on_pool((1, 2), 1.0)
    assert set(g._limiters) == set()


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        ({"algorithm": "gradient2"}, (20, 20, 200)),
        ({"algorithm": "envoy"}, (3, 3, 1000)),
        ({"most": 10}, (10, 10, 10)),
        ({"least": 300}, (300, 300, 300)),
        ({"initial": 50, "least": 5, "most": 60}, (50, 5, 60)),
    ],
)
def test_limits_that_are_not_given_are_the_source_s(parameters: dict[str, object], limits: tuple[int, int, int]) -> None:
    limiter = guard(**parameters)._settings.limiter()
    assert (limiter.limit(0.0), limiter._settings.least, limiter._settings.most) == limits
