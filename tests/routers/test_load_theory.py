"""What theory says of the rules, shown through the rules themselves: balls into bins, idle queues, hot keys, disruption."""

from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush
from math import ceil, log
from statistics import mean

import numpy as np
import pytest

from replicas.view import ReplicaView
from routers.policies import build_policy
from routers.policy import Decision, Policy, TryEnd
from tests.routers.fake_driver import context, request, views
from workloads.draws import generator


def maximum_load(name: str, n: int, seed: int) -> int:
    """n balls into n bins: n requests that never end, over n replicas; the most that one of them holds."""
    policy, pool = build_policy(name, context(n, seed)), views(n)
    for rid in range(n):
        pool[policy.choose(request(rid), pool, 0.0).replica_id].in_flight += 1
    return max(v.in_flight for v in pool)


SIZES = (100, 1000, 10_000)
SEEDS = range(3)


@pytest.fixture(scope="module")
def loads() -> dict[tuple[str, int], float]:
    return {(name, n): mean(maximum_load(name, n, seed) for seed in SEEDS) for name in ("random", "power_of_two") for n in SIZES}


def test_one_choice_grows_as_log_n_over_log_log_n(loads: dict[tuple[str, int], float]) -> None:
    """Gonnet 1981: the fullest of n bins holds Γ⁻¹(n) − 3/2 + o(1) balls, which is Θ(log n / log log n)."""
    for n in SIZES:
        assert abs(loads["random", n] - (inverse_gamma(n) - 1.5)) < 0.8, n
    assert loads["random", 10_000] - loads["random", 100] >= 2


def test_two_choices_grow_as_log_log_n(loads: dict[tuple[str, int], float]) -> None:
    """Azar, Broder, Karlin, Upfal 1994; Mitzenmacher 1996: ln ln n / ln 2 + O(1), so at most one more from 100 to 10,000."""
    for n in SIZES:
        assert abs(loads["power_of_two", n] - log(log(n)) / log(2)) < 1, n
    assert loads["power_of_two", 10_000] - loads["power_of_two", 100] <= 1
    assert all(loads["random", n] >= loads["power_of_two", n] + 1.3 for n in SIZES)


def inverse_gamma(value: float) -> float:
    from scipy.special import gammaln

    low, high = 2.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if gammaln(middle) < log(value) else (low, middle)
    return low


class Farm:
    """n replicas that each serve one request at a time in order, exponential service of mean 1, Poisson arrivals: n M/M/1 queues
    if the rule is random. Counts are the router's own; the replicas are never observed."""

    def __init__(self, name: str, n: int, load: float, seed: int) -> None:
        self.policy: Policy = build_policy(name, context(n, seed))
        self.pool = views(n)
        self.gaps = generator(seed, "test-farm-gaps").exponential(1 / (n * load), 100_000)
        self.services = generator(seed, "test-farm-services").exponential(1.0, 100_000)
        self.lines: list[deque[int]] = [deque() for _ in range(n)]
        self.ends: list[tuple[float, int]] = []

    def mean_wait(self, requests: int) -> float:
        """Mean time between arrival and the start of service."""
        now, waits, arrived = 0.0, list[float](), [0.0] * requests
        for rid in range(requests):
            now += self.gaps[rid]
            while self.ends and self.ends[0][0] <= now:
                self.end(waits, arrived)
            arrived[rid] = now
            asked = request(rid)
            decision = self.policy.choose(asked, self.pool, now)
            self.policy.on_sent(asked, decision, now)
            self.pool[decision.replica_id].in_flight += 1
            line = self.lines[decision.replica_id]
            line.append(rid)
            if len(line) == 1:
                self.start(decision.replica_id, now, waits, arrived)
        return float(mean(waits))

    def start(self, replica_id: int, now: float, waits: list[float], arrived: Sequence[float]) -> None:
        rid = self.lines[replica_id][0]
        waits.append(now - arrived[rid])
        heappush(self.ends, (now + self.services[rid], replica_id))

    def end(self, waits: list[float], arrived: Sequence[float]) -> None:
        now, replica_id = heappop(self.ends)
        rid = self.lines[replica_id].popleft()
        self.pool[replica_id].in_flight -= 1
        asked = request(rid)
        self.policy.on_end(asked, Decision(replica_id), TryEnd(True, 200, replica_id, 1), now)
        if self.lines[replica_id]:
            self.start(replica_id, now, waits, arrived)


@pytest.mark.parametrize("load", [0.3, 0.5])
def test_random_waits_as_an_mm1_queue_and_jiq_hardly_at_all_at_low_load(load: float) -> None:
    """M/M/1: the mean wait is ρ/(1 − ρ) services. JIQ finds an idle replica whenever there is one (Lu et al. 2011)."""
    requests, n = 12_000, 20
    random_wait = Farm("random", n, load, 1).mean_wait(requests)
    jiq_wait = Farm("join_idle_queue", n, load, 1).mean_wait(requests)
    assert random_wait == pytest.approx(load / (1 - load), rel=0.15)
    assert jiq_wait < 0.01 * random_wait


def test_jiq_and_two_choices_change_places_as_load_grows() -> None:
    """At 50% JIQ waits less than two choices; at 97% nobody is idle, JIQ is random then and two choices wait less."""
    low = {name: Farm(name, 10, 0.5, 2).mean_wait(6000) for name in ("join_idle_queue", "power_of_two")}
    high = {name: Farm(name, 10, 0.97, 2).mean_wait(12_000) for name in ("join_idle_queue", "power_of_two", "random")}
    assert low["join_idle_queue"] < 0.3 * low["power_of_two"]
    assert high["power_of_two"] < high["random"]
    assert high["join_idle_queue"] < high["random"]


def zipf_sessions(n: int, keys: int, exponent: float, seed: int) -> list[int]:
    weights = 1.0 / np.arange(1, keys + 1) ** exponent
    return [int(k) for k in generator(seed, "test-zipf").choice(keys, n, p=weights / weights.sum())]


def loads_of(name: str, sessions: Sequence[int], n: int, in_flight: int, **parameters: object) -> tuple[Counter[int], float]:
    """Requests by replica, the last `in_flight` of them under way, and the highest (in flight / ceil(c·mean)) at any send."""
    policy, pool = build_policy(name, context(n, 1, **parameters)), views(n)
    under_way: deque[int] = deque()
    counts: Counter[int] = Counter()
    worst = 0.0
    for rid, session in enumerate(sessions):
        if len(under_way) == in_flight:
            pool[under_way.popleft()].in_flight -= 1
        total = len(under_way)
        chosen = policy.choose(request(rid, session=session), pool, 0.0).replica_id
        pool[chosen].in_flight += 1
        under_way.append(chosen)
        counts[chosen] += 1
        worst = max(worst, pool[chosen].in_flight / ceil(1.25 * (total + 1) / n - 1e-9))
    return counts, worst


@pytest.fixture(scope="module")
def zipf() -> list[int]:
    return zipf_sessions(8000, 1000, 1.1, 1)


def test_zipf_keys_make_a_hot_spot_on_a_ring_and_bounded_loads_cure_it(zipf: list[int]) -> None:
    n, in_flight = 16, 160
    ring, over = loads_of("consistent_hash", zipf, n, in_flight)
    bounded, worst = loads_of("consistent_hash_bounded", zipf, n, in_flight)
    per_replica = len(zipf) / n
    assert max(ring.values()) > 2.5 * per_replica
    assert over > 2
    assert max(bounded.values()) < 1.3 * per_replica
    assert worst <= 1.0, "a send that left its replica above ceil(c·mean)"


def test_the_bound_costs_little_of_the_affinity(zipf: list[int]) -> None:
    """Most requests of sessions outside the hot spot still go home, and to the next on the ring if not."""
    n = 16
    bounded, home = build_policy("consistent_hash_bounded", context(n)), views(n)
    pool, at_home, under_way = views(n), 0, deque[int]()
    for rid, session in enumerate(zipf[:4000]):
        if len(under_way) == 160:
            pool[under_way.popleft()].in_flight -= 1
        decision = bounded.choose(request(rid, session=session), pool, 0.0)
        pool[decision.replica_id].in_flight += 1
        under_way.append(decision.replica_id)
        at_home += decision.replica_id == bounded.choose(request(rid, session=session), home, 0.0).replica_id
    assert at_home > 0.6 * 4000


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("in_flight", [1, 7, 40, 400])
def test_no_send_ever_leaves_a_replica_above_the_bound(seed: int, in_flight: int) -> None:
    _, worst = loads_of("consistent_hash_bounded", zipf_sessions(1500, 50, 1.5, seed), 16, in_flight)
    assert worst <= 1.0


def test_two_places_on_the_ring_halve_the_hot_spot_at_best(zipf: list[int]) -> None:
    """The hottest key alone is more than a replica's share here: two choices give it two replicas, bounded loads many."""
    hottest = Counter(zipf).most_common(1)[0][1]
    n = 16
    ring, _ = loads_of("consistent_hash", zipf, n, 160)
    two, _ = loads_of("consistent_hash_two_choices", zipf, n, 160)
    assert hottest > len(zipf) / n
    assert hottest / 2 <= max(two.values()) < 0.75 * max(ring.values())


@pytest.mark.parametrize(
    ("name", "more_than_needed"),
    [("consistent_hash", 0.0), ("consistent_hash_two_choices", 0.0), ("rendezvous", 0.0), ("maglev", 0.05)],
)
def test_a_removal_moves_the_share_of_who_left_and_little_else(name: str, more_than_needed: float) -> None:
    n, sessions = 10, range(3000)
    policy, pool = build_policy(name, context(n)), views(n)
    before = {s: policy.choose(request(s, session=s), pool, 0.0).replica_id for s in sessions}
    policy.on_pool(tuple(i for i in range(n) if i != 4), 1.0)
    left: list[ReplicaView] = [v for v in pool if v.replica_id != 4]
    after = {s: policy.choose(request(s, session=s), left, 1.0).replica_id for s in sessions}
    had_to = sum(home == 4 for home in before.values())
    moved = sum(before[s] != after[s] for s in sessions)
    assert 0.06 < had_to / len(sessions) < 0.14
    assert had_to <= moved <= had_to + more_than_needed * len(sessions)


def test_round_robin_over_the_pool_moves_nearly_everything_instead() -> None:
    """The yardstick: hashing modulo the number of replicas keeps 1 in n."""
    sessions = range(3000)
    moved = sum(s % 10 != s % 9 for s in sessions)
    assert moved > 0.85 * len(sessions)
