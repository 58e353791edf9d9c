"""Queueing theory as the judge of the whole virtual run: client, guards, router and engines must wait as its systems do.

Each test's docstring says the law. Intervals are 99.9% t-intervals of a mean over independent seeds; each test also asserts that
its interval is narrow enough to say something. Where a law holds for every sample path, the run must obey it to the microsecond.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from replicas.profile import StepTime
from tests.replicas.queueing import (
    LAWS,
    MEAN_S,
    ONE_AT_A_TIME,
    TOKEN_US,
    Interval,
    Path,
    System,
    blocked_mmkn,
    erlang_b,
    erlang_c,
    lindley,
    pollaczek_khinchine,
    simulate,
    wait_gim1,
    wait_mmk,
)

K = 4


def over_seeds(system: System, seeds: int, figure: Callable[[Path], float]) -> Interval:
    return of_runs(system, [simulate(system, seed) for seed in range(1, seeds + 1)], figure)


def of_runs(system: System, runs: Sequence[Path], figure: Callable[[Path], float]) -> Interval:
    return Interval.of([figure(p) for p in runs], [p.offered(system) for p in runs])


def mean_wait(path: Path) -> float:
    return float(path.wait_s.mean())


def held(expected: float, interval: Interval, within: float) -> None:
    """The theory's value lies in the interval, whose half width is at most `within` of it."""
    assert expected in interval, (expected, interval)
    assert interval.half_width <= within * expected, (expected, interval)


# Sample paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", list(LAWS))
def test_every_request_waits_as_lindley_says(law: str) -> None:
    """One server: W' = max(0, W + S − A), for each request of a run and to the microsecond."""
    path = simulate(System(law, 0.8), 1)
    assert path.wait_us.max() > 5 * MEAN_S * 1e6
    np.testing.assert_array_equal(path.wait_us, lindley(path.arrival_us, path.service_us))
    np.testing.assert_array_equal(path.ended_us, path.arrival_us + path.wait_us + path.service_us)


@pytest.mark.parametrize("law", ["M", "two kinds"])
@pytest.mark.parametrize("servers", [2, 5])
def test_a_shared_queue_before_k_replicas_is_one_line_with_k_servers(servers: int, law: str) -> None:
    """Kiefer and Wolfowitz: the head of the line goes to the server that is free first; again to the microsecond."""
    path = simulate(System(law, 0.85, servers).shared_queue(), 1)
    np.testing.assert_array_equal(path.wait_us, lindley(path.arrival_us, path.service_us, servers))
    assert len(np.unique(path.replica)) == servers


@pytest.mark.parametrize("router", ["round_robin", "random"])
def test_a_split_stream_is_k_lines_with_one_server_each(router: str) -> None:
    """Without a shared queue each replica obeys Lindley on the requests it was given."""
    path = simulate(System("M", 0.8, 3, router), 1)
    for replica_id in range(3):
        own = path.replica == replica_id
        np.testing.assert_array_equal(path.wait_us[own], lindley(path.arrival_us[own], path.service_us[own]))
    if router == "round_robin":
        np.testing.assert_array_equal(path.replica, np.arange(len(path.replica)) % 3)


# Means ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["D", "M"])
def test_the_mean_wait_is_pollaczek_khinchines(law: str) -> None:
    """M/D/1 and M/M/1 at half load; the heavier ones are slow."""
    interval = over_seeds(System(law, 0.5), 15, mean_wait)
    held(pollaczek_khinchine(0.5, LAWS[law]), interval, within=0.3)
    assert pollaczek_khinchine(0.5, LAWS["M" if law == "D" else "D"]) not in interval, "it can tell the two apart"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rho", "measured", "within"),
    [(0.3, 2_500, 0.15), (0.6, 2_000, 0.2), (0.8, 2_500, 0.3)],
)
@pytest.mark.parametrize("law", list(LAWS))
def test_the_mean_wait_of_mg1_at_several_loads(law: str, rho: float, measured: int, within: float) -> None:
    """M/G/1: ρ/(1−ρ)·(1+c²)/2·E[S], for constant, exponential, uniform and two-point service."""
    held(pollaczek_khinchine(rho, LAWS[law]), over_seeds(System(law, rho, measured=measured), 20, mean_wait), within)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["D", "M"])
def test_the_mean_wait_at_nine_tenths_load(law: str) -> None:
    interval = over_seeds(System(law, 0.9, warmup=1500, measured=4_000), 20, mean_wait)
    held(pollaczek_khinchine(0.9, LAWS[law]), interval, within=0.4)


@pytest.mark.slow
def test_a_twentieth_more_service_would_be_noticed() -> None:
    """5% more service than the formula assumes falls outside the interval: the comparison has power."""
    slower = replace(ONE_AT_A_TIME, step=replace(ONE_AT_A_TIME.step, base_s=1.05 * TOKEN_US / 1e6))
    interval = over_seeds(System("D", 0.8, measured=3_000, profile=slower), 15, mean_wait)
    assert pollaczek_khinchine(0.8, LAWS["D"]) < interval.low


@pytest.mark.slow
def test_the_wait_of_mm1_is_exponential_beyond_zero() -> None:
    """M/M/1: P(W > t) = ρ·exp(−(1−ρ)t/E[S])."""
    system, rho = System("M", 0.6, measured=2_500), 0.6
    runs = [simulate(system, seed) for seed in range(1, 21)]
    for t_s in (0.0, 0.1, 0.3, 0.6):
        longer = Interval.of([float((p.wait_s > t_s).mean()) for p in runs], [p.offered(system) for p in runs])
        held(float(rho * np.exp(-(1 - rho) * t_s / MEAN_S)), longer, within=0.3)


@pytest.mark.slow
@pytest.mark.parametrize(("servers", "rho"), [(2, 0.5), (2, 0.8), (4, 0.7), (8, 0.8)])
def test_a_shared_queue_waits_as_mmk(servers: int, rho: float) -> None:
    """M/M/k: Erlang's C says who waits, and C·E[S]/(k(1−ρ)) how long everybody does on average."""
    system = System("M", rho, servers, warmup=200, measured=5_000 // servers).shared_queue()
    runs = [simulate(system, seed) for seed in range(1, 21)]
    held(wait_mmk(servers, rho, MEAN_S), of_runs(system, runs, mean_wait), within=0.3)
    held(erlang_c(servers, servers * rho), of_runs(system, runs, lambda p: float((p.wait_us[p.measured] > 0).mean())), within=0.1)


@pytest.mark.slow
def test_one_line_beats_the_shortest_line_beats_taking_turns_beats_a_coin() -> None:
    """Four replicas, the same arrivals and services: M/M/4 < join the shortest queue < E4/M/1 < M/M/1, each at its formula.

    Taking turns leaves each replica every fourth arrival (Erlang gaps of four stages), a coin leaves it a Poisson stream.
    """
    rho = 0.8
    system = System("M", rho, K, warmup=200, measured=500)
    arms = {
        "one line": system.shared_queue(),
        "shortest": replace(system, router="least_outstanding"),
        "turns": replace(system, router="round_robin"),
        "coin": replace(system, router="random"),
    }
    runs = {name: [simulate(arm, seed) for seed in range(1, 13)] for name, arm in arms.items()}
    means = {name: [mean_wait(p) for p in paths] for name, paths in runs.items()}
    for better, worse in pairwise(arms):
        gained = Interval.of([w - b for b, w in zip(means[better], means[worse], strict=True)])
        assert gained.low > 0, (better, worse, gained)
    rate = K * rho / MEAN_S
    theory = {
        "one line": wait_mmk(K, rho, MEAN_S),
        "turns": wait_gim1(lambda s: (rate / (rate + s)) ** K, MEAN_S),
        "coin": pollaczek_khinchine(rho, LAWS["M"]),
    }
    for name, expected in theory.items():
        held(expected, of_runs(system, runs[name], mean_wait), within=0.4)


@pytest.mark.slow
def test_the_order_of_the_line_moves_the_spread_but_not_the_mean() -> None:
    """M/M/1, last come first served: the same mean wait, and a second moment 1/(1−ρ) times that of first come first served."""
    rho, seeds = 0.6, 20
    figures = []
    for order in ("fifo", "lifo"):
        system = System("M", rho, measured=3_000).shared_queue(order=order)
        runs = [simulate(system, seed) for seed in range(1, seeds + 1)]
        held(pollaczek_khinchine(rho, LAWS["M"]), of_runs(system, runs, mean_wait), within=0.2)
        figures.append(Interval.of([float((p.wait_s**2).mean()) for p in runs]))
    fifo = 2 * rho * MEAN_S**2 / (1 - rho) ** 2
    held(fifo, figures[0], within=0.4)
    held(fifo / (1 - rho), figures[1], within=0.6)


# Who is seen, who is lost -------------------------------------------------------------------------------------------------


def test_littles_law() -> None:
    """L = λW: the mean of the gauges running + waiting, read once a second, is the rate times the mean time in the system."""
    system = System("M", 0.6, 2, warmup=200, measured=1500)

    def difference(path: Path) -> float:
        rate = len(path.response_s) / (system.measured * MEAN_S)
        return float((path.running + path.waiting).mean()) - rate * float(path.response_s.mean())

    interval = over_seeds(system, 10, difference)
    assert 0.0 in interval
    assert interval.half_width < 0.4, "of about 3"
    busy = over_seeds(system, 10, lambda p: float(p.running.mean()))
    held(2 * 0.6, busy, within=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arrival", "sees"),
    [
        ({"process": "poisson"}, "as much"),
        ({"process": "gamma", "cv": 3.0}, "more"),  # bursts meet themselves
        ({"process": "constant"}, "less"),  # regular arrivals come when the last one has almost gone
    ],
    ids=["poisson", "bursty", "regular"],
)
def test_poisson_arrivals_see_time_averages_and_others_do_not(arrival: dict[str, object], sees: str) -> None:
    """PASTA: what an arriving request finds at the replica (the decision log) against the gauge's mean over time."""
    system = System("M", 0.6, arrival=arrival, sees=True, measured=2000)
    surplus = over_seeds(system, 20, lambda p: float(p.seen.mean()) - float((p.running + p.waiting).mean()))
    assert surplus.half_width < {"as much": 0.25, "more": 1.5, "less": 0.25}[sees]
    assert {"as much": 0.0 in surplus, "more": surplus.low > 0, "less": surplus.high < 0}[sees], surplus


@pytest.mark.parametrize("law", ["D", "M", "two kinds"])
def test_a_pool_without_a_line_loses_as_erlang_b_whatever_the_service(law: str) -> None:
    """M/G/k/k: the share turned away depends on the mean service alone (insensitivity)."""
    system = System(law, 0.9, 3, warmup=100, measured=700).shared_queue(max_length=0)
    load = system.rate_rps * LAWS[law].mean_s
    lost = over_seeds(system, 12, lambda p: float(p.refused[p.measured].mean()))
    held(erlang_b(3, load), lost, within=0.12)


@pytest.mark.slow
@pytest.mark.parametrize("places", [1, 4])
def test_a_short_line_overflows_as_mmkn(places: int) -> None:
    """M/M/k/n in overload (ρ = 1.5): a stable system that turns away its excess."""
    system = System("M", 1.5, 2, warmup=100, measured=500).shared_queue(max_length=places)
    lost = over_seeds(system, 20, lambda p: float(p.refused[p.measured].mean()))
    held(blocked_mmkn(2, 2 + places, 3.0), lost, within=0.05)


# Batches ------------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("law", ["M", "two kinds"])
def test_a_batch_whose_step_grows_with_its_size_is_processor_sharing(law: str) -> None:
    """M/G/1-PS: a request of x tokens stays x/(1−ρ) on average, whatever the law; long ones are slowed down as short ones are."""
    rho = 0.6
    step = StepTime(0.0, 0.0, 0.0, 0.0, TOKEN_US / 1e6, 0.0)
    profile = replace(ONE_AT_A_TIME, step=step, max_running=1000, kv_blocks=4096)
    runs = [simulate(System(law, rho, profile=profile, measured=1500), seed) for seed in range(1, 16)]
    mean = Interval.of([float(p.response_s.mean()) for p in runs])
    held(LAWS[law].mean_s / (1 - rho), mean, within=0.25)

    def slowdown(path: Path, longer: bool) -> float:
        service_s = path.service_us[path.measured] / 1e6
        kind = (service_s > MEAN_S) == longer
        return float(path.response_s[kind].sum() / service_s[kind].sum())

    for longer in (False, True):
        held(1 / (1 - rho), Interval.of([slowdown(p, longer) for p in runs]), within=0.3)


def test_a_batch_whose_step_does_not_grow_has_room_for_all() -> None:
    """M/G/∞: nobody waits for more than the step under way, and the number in service is Poisson: mean λS, variance λS."""
    profile = replace(ONE_AT_A_TIME, max_running=1000, kv_blocks=4096)
    system = System("M", 5.0, profile=profile, warmup=200, measured=1000)
    runs = [simulate(system, seed) for seed in range(1, 9)]
    held(5.0, Interval.of([float(p.running.mean()) for p in runs]), within=0.15)
    held(5.0, Interval.of([float(p.running.var(ddof=1)) for p in runs]), within=0.6)
    for path in runs:
        late_us = path.ended_us - path.arrival_us - path.service_us
        assert 0 <= late_us.min() <= late_us.max() <= TOKEN_US
